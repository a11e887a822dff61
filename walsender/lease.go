package walsender

import (
	"time"

	"github.com/longship-db/longship/pgwire"
)

// leaseEvery is the least time between two lease requests on a stream. While the log moves, promises
// are renewed long before they lapse, at the price of a few bytes.
const leaseEvery = pgwire.LeaseTerm / 4

// leaseRequest is what a message that is sent at now asks for. It is the time since the stream began,
// and 1, so that no request is 0.
func (st *stream) leaseRequest(now time.Time) pgwire.LeaseRequest {
	if !st.leaseDue(now) {
		return 0
	}
	st.leaseWanted = false
	request := int64(now.Sub(st.began)) + 1
	st.lease.Store(request)
	return pgwire.LeaseRequest(request)
}

// leaseDue reports whether the last request is so old that the next one is worth its bytes. Only a
// primary has a use for promises, and only a member can give them.
func (st *stream) leaseDue(now time.Time) bool {
	last := st.lease.Load()
	return st.native && st.sync != nil && (last == 0 || int64(now.Sub(st.began))+1-last >= int64(leaseEvery))
}

// wantsLease reports whether the group waits for a promise that is to be asked for at once. One that was
// asked for a moment ago is on its way, or lasts for most of its term yet.
func (st *stream) wantsLease() bool {
	select {
	case <-st.leaseWantedC():
		st.leaseWanted = true
	default:
	}
	if st.leaseWanted && !st.leaseDue(time.Now()) {
		st.leaseWanted = false
	}
	return st.leaseWanted
}

// leaseWantedC has a message when the group wants a promise. nil, which never has one, where nobody
// gives any.
func (st *stream) leaseWantedC() <-chan struct{} {
	if !st.native || st.sync == nil {
		return nil
	}
	return st.sync.LeaseWanted()
}

// promised takes a member's promise: it lasts from the sending of the request on, by our clock, and a little
// less, and so ends here before it does there, though our clock be slower (invariant I11). A promise that was
// not asked for would name a time that has not come.
func (st *stream) promised(request pgwire.LeaseRequest) error {
	switch {
	case request == 0:
		return nil
	case request < 0 || int64(request) > st.lease.Load():
		return pgwire.Errorf(pgwire.CodeProtocolViolation, "lease promise answers a request that was not made").Fatal()
	}
	sent := st.began.Add(time.Duration(request - 1))
	st.sync.Promise(sent.Add(pgwire.LeaseHeld))
	return nil
}
