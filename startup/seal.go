package startup

import "time"

// Seal records, durably, that this node acknowledges and follows nothing before epoch any more, and
// that its log is durable up to its end (invariant I3). It is called between two roles; while a
// Checkpointer is at work, that one's Seal is.
func Seal(d DataDir, r *Recovered, epoch uint64) error {
	control := r.Control
	control.PromisedEpoch = max(control.PromisedEpoch, epoch)
	control.Durable = r.End.LSN
	control.Horizon = max(control.Horizon, r.Horizon)
	control.Time = time.Now().UTC()
	if err := control.Write(d.FS, d.Global()); err != nil {
		return err
	}
	r.Control = control
	return nil
}
