package walsender

import (
	"time"

	"github.com/longship-db/longship/wal"
)

// paceSlice is how much WAL is sent between two looks at whether it was too fast.
const paceSlice = 1 << 20

// paceBehind is how far behind what is released one who had caught up has to fall to be paced again.
const paceBehind = 16 << 20

// paceStill is for how long no commit is seen to be released before none are said to be. Where each takes longer than
// that the pace holds for part of the time.
const paceStill = 50 * time.Millisecond

// A pace keeps a client that catches up from holding up commits: to read, send, receive and store a log that is far
// ahead takes the disk and the processors of all, as much as there is. While commits are released it is sent no faster
// than wal_catchup_rate, unless the log grows so fast itself that the client would not catch up. When none are, be it
// that none come or that they wait for this client, it is sent as fast as can be.
type pace struct {
	begun time.Time // when the slice began; zero: there was none yet
	sent  wal.LSN   // how far the stream was then
	limit wal.LSN   // and the log that is released
	owed  int64     // what has to be sent before it may rest, as the log grew by more than half of what was sent

	seen wal.LSN   // how far the log has been seen to be released
	grew time.Time // when that was seen, which is up to a look later than it was
}

// rest returns for how long a stream has to rest by now, before it goes on or looks again: it is at sent, of a log that
// is released up to limit. rate is in bytes a second, 0 for no limit.
func (p *pace) rest(now time.Time, sent, limit wal.LSN, rate int64) time.Duration {
	if p.begun.IsZero() {
		*p = pace{begun: now, sent: sent, limit: limit}
	}
	if limit > p.seen {
		p.seen, p.grew = limit, now
	}
	gained, grown := int64(sent-p.sent), int64(limit-p.limit)
	if gained < paceSlice {
		return 0
	}
	owed := max(0, p.owed+2*grown-gained)
	if rate > 0 && owed == 0 {
		due := time.Duration(float64(gained) / float64(rate) * float64(time.Second))
		if rest := min(due-now.Sub(p.begun), paceStill-now.Sub(p.grew)); rest > 0 {
			return rest
		}
	}
	p.begun, p.sent, p.limit, p.owed = now, sent, limit, owed
	return 0
}
