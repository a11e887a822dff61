package node

import (
	"testing"
	"time"

	"github.com/longship-db/longship/wal"
)

func TestAges(t *testing.T) {
	begin := time.Now()
	after := func(s float64) time.Time { return begin.Add(time.Duration(s * float64(time.Second))) }
	var a ages
	if d := a.of(10, begin); d != 0 {
		t.Errorf("age %v when nothing is known", d)
	}
	if _, ok := a.waiting(0, begin); ok {
		t.Error("something waits when nothing is known")
	}
	a.note(100, after(0))
	a.note(200, after(1))
	a.note(150, after(2)) // late: known already
	a.note(300, after(1.001))
	a.note(400, after(4))
	for _, test := range []struct {
		lsn     wal.LSN
		age     float64 // at 10 seconds
		waiting float64 // negative: nothing waits
	}{
		{50, 10, 10}, // older than the reign: at least so old
		{100, 10, 9},
		{199, 10, 9},
		{200, 9, 6},
		{399, 9, 6},
		{400, 6, -1},
		{500, 6, -1},
	} {
		if got := a.of(test.lsn, after(10)).Seconds(); got != test.age {
			t.Errorf("of(%d) is %v s, want %v s", test.lsn, got, test.age)
		}
		waiting, ok := a.waiting(test.lsn, after(10))
		if ok != (test.waiting >= 0) || ok && waiting.Seconds() != test.waiting {
			t.Errorf("behind %d something waits for %v, %v, want %v s", test.lsn, waiting, ok, test.waiting)
		}
	}
}

// Memory is bounded. What was noted long ago is remembered less exactly, but never as younger than it
// is.
func TestAgesAreBounded(t *testing.T) {
	begin := time.Now()
	var a ages
	const noted = 30 * mostMoments
	end := begin.Add(noted * time.Second)
	for i := range noted {
		a.note(wal.LSN(i+1), begin.Add(time.Duration(i)*time.Second))
		if len(a.moments) > mostMoments {
			t.Fatalf("%d moments are kept", len(a.moments))
		}
	}
	for i := range noted {
		age := end.Sub(begin.Add(time.Duration(i) * time.Second))
		if got := a.of(wal.LSN(i+1), end); got < age || got > age+age/resolution+time.Second {
			t.Fatalf("what is %v old is taken for %v old", age, got)
		}
	}
}
