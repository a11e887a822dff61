package integration

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A primary that stands still for a while, and then goes on where it was: nobody is told of a commit
// that the next primary does not have, and nobody reads from it what is no longer so. Clients stay
// connected to it, with statements under way, and send it more before it wakes up.
func TestPausedPrimary(t *testing.T) {
	t.Parallel()
	rounds, longest := 2, 4*time.Second
	if long {
		rounds, longest = 40, 30*time.Second
	}
	c := newCluster(t, 3, heartbeats)
	random := rand.New(rand.NewPCG(4, 0))
	k := c.startClients("paused", 6)
	k.add(6, loyal+longest)
	var gaps []time.Duration
	for round := range rounds {
		k.await(50 + random.IntN(100))
		old := c.primary()
		idle := k.connectTo(old, 9)
		epoch := old.epoch()
		length := time.Second + rand.N(longest-time.Second)
		if round == 0 {
			length = longest // certainly a failover
		}
		at := k.now()
		old.freeze()
		struck := time.Now()
		pause(t.Context(), length)
		answers := k.ask(idle) // with the kernel, until the process runs again
		old.thaw()
		answers.Wait()
		k.await(50)
		c.awaitStreaming()
		k.nextEra()
		gap := k.gap(at)
		gaps = append(gaps, gap)
		t.Logf("%s stood still for %v: no write for %v; %s", old.name, length.Round(time.Millisecond), gap.Round(time.Millisecond), c.phases(struck, epoch))
		if t.Failed() {
			t.FailNow()
		}
	}
	k.finish()
	if n := k.told["timeout"]; n > 0 {
		t.Logf("%d statements of clients that do not wait long had no answer", n)
	}
	t.Logf("longest time without an acknowledged write while a primary stands still: %s", percentiles(gaps))
}

// An idler is a client with an open session and nothing to do yet.
type idler struct {
	*worker
	conn *pgx.Conn
}

// connectTo opens sessions on a node.
func (k *clientele) connectTo(n *node, sessions int) (idle []idler) {
	k.t.Helper()
	for range sessions {
		conn, err := pgx.Connect(k.ctx, n.dsn("default_query_exec_mode=exec"))
		if err != nil {
			k.t.Fatal(err)
		}
		idle = append(idle, idler{k.worker(loyal), conn})
	}
	return idle
}

// ask has every idle client send a statement, and more when that is answered, until its session is
// ended or some time has passed. It returns when the first ones have been sent, as far as one can know;
// the result ends with the last answer. A session that gets neither that nor an end fails the test.
func (k *clientele) ask(idle []idler) *sync.WaitGroup {
	var answered sync.WaitGroup
	for _, i := range idle {
		answered.Go(func() {
			defer hangUp(i.conn)
			for began := time.Now(); time.Since(began) < 2*time.Second; {
				sent := time.Now()
				if err := i.step(i.conn); err != nil {
					if time.Since(sent) >= loyal {
						k.t.Errorf("a session on a primary that stood still has no answer: %v", err)
					}
					k.note(err)
					return
				}
			}
		})
	}
	pause(k.ctx, 50*time.Millisecond)
	return &answered
}
