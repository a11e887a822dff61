package node

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/longship-db/longship/wal"
)

// A Config is what a node is started with: where it lives, who it is, and the server settings that
// differ from their defaults.
type Config struct {
	DataDir string
	Name    string // of the node, unique in the cluster

	Listen        string   // host:port for clients, receivers and members
	AdvertiseHost string   // host, or host:port for the port of Listen, under which others reach this node; default: as in Listen
	Join          []string // client addresses of members of the cluster to join; none: found one

	RaftListen       string // host:port for the Raft of the members
	GossipListen     string // host:port, TCP and UDP, for the gossip of the members
	HTTPListen       string // host:port for metrics and health; empty: they are not served
	EnablePprof      bool   // profiles of the process there too
	Zone             string // where the node is: a rack, a building; rules with ZONES count them
	FailoverPriority int    // the higher the rather promoted; 0: never
	Witness          bool   // keeps the log and no table, and is never promoted
	GossipKey        []byte // 16, 24 or 32 bytes that encrypt gossip; nil: in the clear
	ClusterSecret    string // members show it to each other; empty: none is wanted

	SegmentSize wal.SegmentSize   // of a new cluster (initdb --wal-segsize); 0: 16 MiB, or what is there
	Settings    map[string]string // PostgreSQL settings by name

	Machine     Machine // on which the node runs; zero: this one
	AllowFaults bool    // whoever reaches the node may break its network and its disk: for drills

	Logger *slog.Logger
	Out    io.Writer // for people: progress of a base copy, and the line that says the node is ready
}

// namePattern is what a node may be called: the name becomes an application_name, a slot name and
// part of log lines.
var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// maxZone is the longest name of a zone, in bytes. It is shown in tables and is a label of metrics.
const maxZone = 63

func (c *Config) check() error {
	if !namePattern.MatchString(c.Name) {
		return fmt.Errorf("node name %q: want 1 to 63 lower-case letters, digits and underscores, a letter first", c.Name)
	}
	if c.DataDir == "" {
		return fmt.Errorf("no data directory given: use --data-dir")
	}
	if c.SegmentSize != 0 && !c.SegmentSize.Valid() {
		return fmt.Errorf("WAL segment size %d: want a power of two between 1 MB and 1 GB", c.SegmentSize)
	}
	for _, listen := range []string{c.Listen, c.RaftListen, c.GossipListen} {
		if err := checkLoopback(listen); err != nil {
			return err
		}
	}
	if c.HTTPListen != "" {
		if err := checkLoopback(c.HTTPListen); err != nil {
			return fmt.Errorf("--http-listen: %w", err)
		}
	} else if c.EnablePprof {
		return fmt.Errorf("--enable-pprof: say with --http-listen where profiles are to be served")
	}
	if strings.ContainsFunc(c.Zone, unicode.IsControl) || len(c.Zone) > maxZone {
		return fmt.Errorf("zone %q: want up to %d bytes of text on one line", c.Zone, maxZone)
	}
	if c.FailoverPriority < 0 {
		return fmt.Errorf("failover priority %d: want 0, for never, or more", c.FailoverPriority)
	}
	if _, port := c.advertised(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("advertised address %q: port must be a number from 1 to 65535", c.AdvertiseHost)
		}
	}
	for _, addr := range c.Join {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("join address %q: want host:port", addr)
		}
	}
	return nil
}

// priority is the failover priority, which a witness has none of.
func (c *Config) priority() int {
	if c.Witness {
		return 0
	}
	return c.FailoverPriority
}

// advertised is the host under which others reach this node, and the port that stands before the one in
// Listen; each "" if it is as it is here.
func (c *Config) advertised() (host, port string) {
	if host, port, err := net.SplitHostPort(c.AdvertiseHost); err == nil {
		return host, port
	}
	return c.AdvertiseHost, ""
}

// advertise is under which host others find this node's gossip; the port is the one it listens on.
func (c *Config) advertise() string {
	host, _ := c.advertised()
	if host == "" {
		return ""
	}
	return net.JoinHostPort(host, "0")
}

// checkLoopback refuses addresses that other machines can reach: there is no authentication yet, so
// whoever can connect can do everything.
func checkLoopback(listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("listen address %q: want host:port", listen)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("listen address %q: port must be a number from 0 to 65535", listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("listen address %q is not on the loopback interface: there is no authentication yet, so other machines must not reach it; use 127.0.0.1", listen)
	}
	return nil
}
