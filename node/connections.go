package node

import (
	"syscall"

	"github.com/longship-db/longship/pgwire"
)

// filesForOthers is how many file descriptors are left for all that is not a connection of a client: the
// store, which holds up to 1000 files open, the log, Raft, members. Never more than half of them.
const filesForOthers = 1500

// newServer makes the server of the client port. It takes no more connections than there are file
// descriptors for: a node that cannot open the next file of its log has to end.
func (n *Node) newServer() *pgwire.Server {
	clients, senders := int(n.settings.Int("max_connections")), int(n.settings.Int("max_wal_senders"))
	most, starting := connectionsFor(openFilesLimit(), clients, senders)
	if most < clients {
		n.log.Warn("max_connections is more than the limit on open files allows: raise it (ulimit -n) for more connections",
			"max_connections", clients, "allowed", most)
	}
	return pgwire.NewServer(pgwire.Config{
		Handler:               n,
		ServerVersion:         serverVersion,
		MaxConnections:        most,
		MaxWALSenders:         senders,
		MaxStarting:           starting,
		ReservedConnections:   int(n.settings.Int("superuser_reserved_connections")),
		Privileged:            func(c *pgwire.Conn) bool { return c.Database == AdminDatabase },
		AuthenticationTimeout: n.setting("authentication_timeout"),
		UserTimeout:           n.setting("tcp_user_timeout"),
		Memory:                pgwire.NewMemory(func() int64 { return n.settings.Bytes("max_total_backend_memory") }),
		Logger:                n.log.With("component", "pgwire"),
	})
}

// connectionsFor divides the file descriptors: how many connections of clients there may be, and how many
// connections in start-up.
func connectionsFor(files, maxConnections, maxSenders int) (most, starting int) {
	const leastStarting = 16
	free := max(files-min(filesForOthers, files/2)-maxSenders, 2*leastStarting)
	most = min(maxConnections, free-leastStarting)
	return most, min(most+maxSenders, free-most)
}

// openFilesLimit is how many files this process may have open. The Go runtime has raised it as far as it
// goes.
func openFilesLimit() int {
	var limit syscall.Rlimit
	const unknown = 1 << 20
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > unknown {
		return unknown
	}
	return int(limit.Cur)
}
