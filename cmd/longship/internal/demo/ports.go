package demo

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

const host = "127.0.0.1"

// What is added to the client port of a node to get its others.
const (
	raftPorts   = 100
	gossipPorts = 200
	httpPorts   = 300
)

// LastPort is the highest port of a demonstration: HTTP's of the last node.
func (cfg *Config) LastPort() int { return cfg.Port + httpPorts + cfg.Nodes - 1 }

// at is where the i-th node listens, offset above its client port.
func (cfg *Config) at(i, offset int) string {
	return net.JoinHostPort(host, strconv.Itoa(cfg.Port+offset+i))
}

func (cfg *Config) address(i int) string { return cfg.at(i, 0) }

// checkPorts makes sure that every node can listen before any is started.
func checkPorts(cfg Config) error {
	tcp := func(address string) (io.Closer, error) { return net.Listen("tcp", address) }
	udp := func(address string) (io.Closer, error) { return net.ListenPacket("udp", address) }
	for i := range cfg.Nodes {
		for _, use := range []struct {
			purpose string
			offset  int
			listen  func(string) (io.Closer, error)
		}{{"clients", 0, tcp}, {"Raft", raftPorts, tcp}, {"gossip", gossipPorts, tcp}, {"gossip over UDP", gossipPorts, udp}, {"HTTP", httpPorts, tcp}} {
			address := cfg.at(i, use.offset)
			l, err := use.listen(address)
			if err != nil {
				return fmt.Errorf("cannot listen on %s for %s: %w: perhaps another demo or node runs there; choose other ports with --port", address, use.purpose, cause(err))
			}
			if err := l.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// cause strips what an error of package net repeats.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}
