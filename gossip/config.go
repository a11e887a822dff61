package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

// A Config is what gossip needs to know and whom it tells. Meta, Seeds, OnDead and OnConflict are
// called from goroutines of Open and Run; while one of them blocks, that part of gossip waits.
type Config struct {
	Name      string // of the node
	Listen    string // host:port, TCP and UDP; port 0: one that is free
	Advertise string // host:port under which others reach Listen; empty, or port 0: as bound
	Key       []byte // 16, 24 or 32 bytes that encrypt gossip; nil: in the clear

	Meta  func() Meta     // what the node says about itself; its ID stays the same
	Seeds func() []string // host:port of the gossip of others: where to look for members that are not heard

	OnDead     func(name string) // nobody of that name answers any more: a hint; nil: not told
	OnConflict func(text string) // two processes pass for one; nil: not told

	Dial    DialFunc // connects to the gossip of others; nil: as net.Dialer does
	Packets Packets  // through which packets go; nil: none

	Logger *slog.Logger

	timing timing // zero: defaultTiming
}

// A timing says how often things happen. Tests are in more of a hurry.
type timing struct {
	probe    time.Duration // every so often one other member is probed
	update   time.Duration // between two looks at whether the own Meta has changed
	small    time.Duration // for which the others need not hear of a small advance
	look     time.Duration // between two looks at the seeds, while nobody else is heard
	rejoin   time.Duration // and afterwards
	conflict time.Duration // how long two must pass for one before it is said
	forget   time.Duration // how long the dead are remembered
}

// With probes every second, a member that is gone is suspected within two and, with four seconds to
// object, dead after about six. The conflict delay is longer than that: a node that is started again
// at once, at another address or with an empty disk, is not two.
var defaultTiming = timing{
	probe: time.Second, update: time.Second, small: 10 * time.Second,
	look: time.Second, rejoin: 10 * time.Second,
	conflict: 15 * time.Second, forget: time.Hour,
}

// resolveTimeout limits how long names are looked up.
const resolveTimeout = 5 * time.Second

// memberlistConfig is memberlist's set of values for a LAN, with less of a hurry to accuse anybody
// on a machine whose every core is busy, and not much more time for those that nobody vouches for.
func memberlistConfig(name string, t timing, logger *log.Logger) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = name
	c.Label = "longship" // other users of memberlist are refused
	c.Logger = logger
	c.ProbeInterval = t.probe
	c.ProbeTimeout = t.probe * 6 / 10
	c.SuspicionMult = 4
	c.SuspicionMaxTimeoutMult = 2 // with five members or more, while nobody else confirms the suspicion
	c.AwarenessMaxMultiplier = 4  // a node that is itself slow probes more slowly, up to this factor
	c.GossipInterval = t.probe / 10
	c.GossipToTheDeadTime = 60 * t.probe
	c.PushPullInterval = 15 * t.probe
	c.TCPTimeout = 3 * time.Second
	c.EnableCompression = false // the messages are small, the cores are busy
	c.DeadNodeReclaimTime = 1   // nanosecond: the dead may come back at another address
	return c
}

// bindAddress resolves Listen. Memberlist would take a name for all interfaces.
func bindAddress(listen string) (*net.TCPAddr, error) {
	addr, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("gossip: listen address %q: %w", listen, err)
	}
	if addr.IP == nil {
		addr.IP = net.IPv4zero
	}
	return addr, nil
}

// advertised is the address that others are told: Advertise, or the bound one.
func advertised(advertise string, bound netip.AddrPort) (netip.AddrPort, error) {
	if advertise == "" {
		if bound.Addr().IsUnspecified() {
			return bound, errors.New("gossip listens on every interface: say under which address others reach it")
		}
		return bound, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	addrs, err := resolve(ctx, advertise)
	if err != nil {
		return bound, fmt.Errorf("gossip: advertised address %q: %w", advertise, err)
	}
	return netip.AddrPortFrom(addrs[0].Addr(), cmp.Or(addrs[0].Port(), bound.Port())), nil
}

// resolve looks up the addresses of host:port: at least one.
func resolve(ctx context.Context, hostport string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q: want a number from 0 to 65535", service)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	return addrs, nil
}
