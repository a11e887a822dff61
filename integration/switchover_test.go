package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Switchovers under load, one after the other: nothing is lost, nothing is done twice, and a client that
// connects again when its session ends hears of nothing else.
func TestSwitchover(t *testing.T) {
	rounds := 6
	if long {
		rounds = 100
	}
	c := newCluster(t, 3)
	random := rand.New(rand.NewPCG(5, 0))
	k := c.startClients("switchover", 8)
	var pauses, commands []time.Duration
	for round := range rounds {
		k.await(50 + random.IntN(100))
		old := c.primary()
		to := c.bystanders(random, 1)[0]
		epoch := old.epoch()
		at, began := k.now(), time.Now()
		out, err := runTool(t, "", longship, "switchover", "--to", to.name, "--host", "127.0.0.1", "--port", strconv.Itoa(c.nodes[round%3].port))
		if err != nil {
			t.Fatalf("switchover %d from %s to %s: %v\n%s", round, old.name, to.name, err, out)
		}
		commands = append(commands, time.Since(began))
		k.await(50)
		if now := c.primary(); now != to {
			t.Errorf("%s is primary, want %s", now.name, to.name)
		}
		k.nextEra()
		gap := k.gap(at)
		pauses = append(pauses, gap)
		t.Logf("%s to %s: no write for %v; %s", old.name, to.name, gap.Round(time.Millisecond), c.phases(began, epoch))
	}
	k.finish()
	k.checkTold("57P01", "25006", "lost")
	k.checkEpochs(1 + rounds)
	t.Logf("longest time without an acknowledged write in a switchover: %s\nthe command took: %s", percentiles(pauses), percentiles(commands))
}

// A primary that is told to stop hands over first: for clients it is a switchover.
func TestStopPrimary(t *testing.T) {
	rounds := 4
	if long {
		rounds = 40
	}
	c := newCluster(t, 3)
	k := c.startClients("stop", 8)
	var pauses []time.Duration
	for range rounds {
		k.await(100)
		old, epoch := c.primary(), c.primary().epoch()
		at, began := k.now(), time.Now()
		old.stop()
		stopped := time.Since(began)
		k.await(50)
		gap := k.gap(at)
		pauses = append(pauses, gap)
		t.Logf("%s stopped within %v: no write for %v; %s", old.name, stopped.Round(time.Millisecond), gap.Round(time.Millisecond), c.phases(began, epoch))
		old.start()
		c.awaitStreaming()
		k.nextEra()
	}
	k.finish()
	k.checkTold("57P01", "25006", "lost")
	k.checkEpochs(1 + rounds)
	t.Logf("longest time without an acknowledged write when the primary is stopped: %s", percentiles(pauses))
}

// checkTold verifies that clients were told nothing but what is expected at the end of a session.
func (j *journal) checkTold(expected ...string) {
	j.t.Helper()
	for what, times := range j.told {
		if !slices.Contains(expected, what) {
			j.t.Errorf("clients were told %s, %d times", what, times)
		}
	}
}

// checkEpochs verifies that there were so many epochs and that each of them opened.
func (k *clientele) checkEpochs(want int) {
	k.t.Helper()
	got := k.cluster.primary().value("SELECT count(*) FROM longship_history WHERE steady")
	if got != fmt.Sprint(want) {
		k.t.Errorf("%s epochs were steady, want %d", got, want)
	}
}
