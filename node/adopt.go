package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"

	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walreceiver"
)

// A directory that pg_basebackup has made is adopted by the node that is started on it, which needs no copy
// of its own then: it joins the cluster, recovers from what is there, and follows.

// standbyFile is where pg_basebackup -R writes how the primary is reached (PostgreSQL 15 manual,
// "pg_basebackup").
const standbyFile = "postgresql.auto.conf"

// standbyFileLimit is its size, at most.
const standbyFileLimit = 64 << 10

// joinFromCopy has the node join where the base backup came from, if it is not told where to.
func (n *Node) joinFromCopy() error {
	if n.cfg.Witness {
		return errors.New("a witness keeps no table, which a base backup holds: start it on an empty directory")
	}
	if len(n.cfg.Join) > 0 {
		return nil
	}
	b, err := wal.ReadFile(n.dir.FS, n.dir.FS.PathJoin(n.dir.Path, standbyFile), standbyFileLimit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if n.cfg.Join = primaryAddresses(string(b)); len(n.cfg.Join) == 0 {
		return fmt.Errorf("%s is a base backup, which becomes a member of its cluster: say with --join HOST:PORT where one is", n.dir.Path)
	}
	return nil
}

// primaryAddresses finds the hosts and ports in primary_conninfo, the last one that is set.
func primaryAddresses(conf string) []string {
	var hosts, ports []string
	for line := range strings.Lines(conf) {
		name, value, _ := strings.Cut(line, "=")
		if strings.TrimSpace(name) != "primary_conninfo" {
			continue
		}
		hosts, ports = nil, nil
		for _, field := range strings.Fields(strings.Trim(strings.TrimSpace(value), "'")) {
			if list, ok := strings.CutPrefix(field, "host="); ok {
				hosts = strings.Split(list, ",")
			}
			if list, ok := strings.CutPrefix(field, "port="); ok {
				ports = strings.Split(list, ",")
			}
		}
	}
	var addrs []string
	for i, host := range hosts {
		switch {
		case host == "" || strings.HasPrefix(host, "/"): // a Unix socket
		case len(ports) == 1:
			addrs = append(addrs, net.JoinHostPort(host, ports[0]))
		case i < len(ports):
			addrs = append(addrs, net.JoinHostPort(host, ports[i]))
		}
	}
	return addrs
}

// adopt makes the base backup in the directory this node's data, if it is one of the cluster.
func (n *Node) adopt(id startup.Identity, sys walreceiver.System) error {
	control, err := startup.ReadControl(n.dir.FS, n.dir.Global())
	if err != nil {
		return err
	}
	d := wal.NewDir(n.dir.FS, n.dir.WAL(), id.Format())
	segments, err := d.Segments()
	if err != nil {
		return err
	}
	redo := id.SegmentSize.Segno(control.Redo)
	i := slices.IndexFunc(segments, func(s wal.SegmentFile) bool { return s.Segno == redo })
	if i < 0 {
		return fmt.Errorf("base backup %s holds no WAL from %s on: make it with pg_basebackup --wal-method=stream or fetch", n.dir.Path, control.Redo)
	}
	if err := d.CheckSystem(segments[i]); err != nil {
		return fmt.Errorf("base backup %s is not one of this cluster: %w", n.dir.Path, err)
	}
	history, err := historyOf(sys.History, control.Timeline)
	if err != nil {
		return fmt.Errorf("base backup %s: %w", n.dir.Path, err)
	}
	if len(history.Switches) > 0 {
		if err := d.WriteHistory(history); err != nil {
			return err
		}
	}
	if err := n.dir.Adopt(id); err != nil {
		return err
	}
	n.log.Info("base backup adopted", "redo", control.Redo, "timeline", control.Timeline)
	return nil
}

// historyOf is the history of a timeline that another one descends from, or is.
func historyOf(h wal.History, tli wal.TimelineID) (wal.History, error) {
	if tli == h.Timeline {
		return h, nil
	}
	i := slices.IndexFunc(h.Switches, func(s wal.Switch) bool { return s.Parent == tli })
	if i < 0 {
		return wal.History{}, fmt.Errorf("timeline %d is none that the cluster has gone through", tli)
	}
	return wal.History{Timeline: tli, Switches: h.Switches[:i]}, nil
}
