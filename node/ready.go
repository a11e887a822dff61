package node

import (
	"fmt"
	"io"
	"net"
	"os"
)

// announceReady tells people and systemd that the node does its work.
func (n *Node) announceReady(format string, args ...any) {
	line := fmt.Sprintf("ready: "+format+"\n", args...)
	if line == n.announced { // the same role on another timeline is no news
		return
	}
	n.announced = line
	if _, err := io.WriteString(n.cfg.Out, line); err != nil {
		n.log.Warn("cannot write to standard output", "err", err)
	}
	if err := notifySystemd(); err != nil {
		n.log.Warn("cannot tell systemd that the node is ready", "err", err)
	}
}

// notifySystemd sends READY=1 to the service manager, if there is one (sd_notify(3)).
func notifySystemd() error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if name[0] == '@' {
		name = "\x00" + name[1:] // the abstract namespace
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer c.Close()
	_, err = c.Write([]byte("READY=1"))
	return err
}
