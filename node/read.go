package node

import (
	"context"
	"errors"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// Read implements election.Service: another member repairs its log with bytes of this one.
func (n *Node) Read(_ context.Context, req election.ReadRequest) (reply election.ReadReply, err error) {
	r, _ := n.present.load()
	if r == nil {
		return reply, errStartingUp()
	}
	size := r.found.Dir.Format.SegmentSize
	if req.Length <= 0 || req.Length > election.MaxRead || req.Start+wal.LSN(req.Length) > size.SegmentStart(req.Start)+wal.LSN(size) {
		return reply, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "cannot read %d bytes of WAL at %s: at most %d, inside one segment", req.Length, req.Start, election.MaxRead)
	}
	if own := r.found.History.FileTimeline(size.Segno(req.Start), size); own != req.Timeline {
		return reply, pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "node %s has WAL of timeline %d at %s, not of %d", n.cfg.Name, own, req.Start, req.Timeline)
	}
	end := min(req.Start+wal.LSN(req.Length), r.flushed().Load())
	if end <= req.Start {
		return reply, nil
	}
	raw := wal.NewRawReader(r.found.Dir, r.found.History, nil).Intact()
	b := make([]byte, end-req.Start)
	_, err = raw.ReadAt(b, req.Start)
	if err = errors.Join(err, raw.Close()); err != nil {
		return reply, pgwire.Errorf(pgwire.CodeUndefinedFile, "%w", err)
	}
	return election.ReadReply{Data: b}, nil
}
