package node

import "testing"

// Connections leave file descriptors for the log, and clients leave places for start-up.
func TestConnectionsFor(t *testing.T) {
	for _, tt := range []struct{ files, clients, senders, most, starting int }{
		{1 << 20, 100, 10, 100, 110},
		{20_000, 10_000, 10, 10_000, 8490},
		{20_000, 50_000, 10, 18_474, 16},
		{1024, 100, 10, 100, 110},
		{256, 100, 10, 100, 18},
		{64, 100, 10, 16, 16},
	} {
		most, starting := connectionsFor(tt.files, tt.clients, tt.senders)
		if most != tt.most || starting != tt.starting {
			t.Errorf("connectionsFor(%d, %d, %d) = %d, %d, want %d, %d", tt.files, tt.clients, tt.senders, most, starting, tt.most, tt.starting)
		}
	}
}
