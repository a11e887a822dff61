package startup

// Seal records, durably, that this node acknowledges and follows nothing before epoch any more, and
// that its log is durable up to its end (invariant I3). It is called between two roles; while a
// Checkpointer is at work, that one's Seal is.
func Seal(d DataDir, r *Recovered, epoch uint64) error {
	control, err := d.changeControl(func(c *Control) error {
		c.Durable = r.End.LSN
		c.Horizon = max(c.Horizon, r.Horizon)
		return c.Promise(max(epoch, c.PromisedEpoch))
	})
	if err != nil {
		return err
	}
	r.Control = control
	return nil
}

// AcceptLoss forgets that the log was known to be longer elsewhere: somebody has decided that what this
// node does not hold is lost.
func AcceptLoss(d DataDir, r *Recovered) error {
	control, err := d.changeControl(func(c *Control) error {
		c.Horizon = min(c.Horizon, r.End.LSN)
		return nil
	})
	if err != nil {
		return err
	}
	r.Control = control
	r.Horizon = min(r.Horizon, r.End.LSN)
	return nil
}
