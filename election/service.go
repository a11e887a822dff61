package election

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
)

// A Service is a member as the others see it: one method per verb. An error that is a *pgwire.Error
// reaches the one who asked with its SQLSTATE.
type Service interface {
	Probe(context.Context, ProbeRequest) (Health, error)
	Seal(context.Context, SealRequest) (raftlog.Answer, error)
	Propose(context.Context, ProposeRequest) (ProposeReply, error)
	Join(context.Context, JoinRequest) (JoinReply, error)
	Hold(context.Context, HoldRequest) (HoldReply, error)
	Release(context.Context, ReleaseRequest) (ReleaseReply, error)
	Fetch(context.Context, FetchRequest) (raftlog.Answer, error)
	Switchover(context.Context, SwitchoverRequest) (SwitchoverReply, error)
	Failover(context.Context, FailoverRequest) (FailoverReply, error)
	Explain(context.Context, ExplainRequest) (ExplainReply, error)
	Remove(context.Context, RemoveRequest) (RemoveReply, error)
	Read(context.Context, ReadRequest) (ReadReply, error)
}

// Serve has svc do what a command says. It returns the answer, JSON, at most MaxText bytes.
func Serve(ctx context.Context, svc Service, text string) ([]byte, error) {
	v, body, err := Parse(text)
	if err != nil {
		return nil, err
	}
	switch v {
	case VerbProbe:
		return serve(ctx, v, body, svc.Probe)
	case VerbSeal:
		return serve(ctx, v, body, svc.Seal)
	case VerbPropose:
		return serve(ctx, v, body, svc.Propose)
	case VerbJoin:
		return serve(ctx, v, body, svc.Join)
	case VerbHold:
		return serve(ctx, v, body, svc.Hold)
	case VerbRelease:
		return serve(ctx, v, body, svc.Release)
	case VerbFetch:
		return serve(ctx, v, body, svc.Fetch)
	case VerbSwitchover:
		return serve(ctx, v, body, svc.Switchover)
	case VerbFailover:
		return serve(ctx, v, body, svc.Failover)
	case VerbExplain:
		return serve(ctx, v, body, svc.Explain)
	case VerbRead:
		return serve(ctx, v, body, svc.Read)
	default: // Parse knows no other
		return serve(ctx, VerbRemove, body, svc.Remove)
	}
}

func serve[Request, Reply any](ctx context.Context, v Verb, body []byte, do func(context.Context, Request) (Reply, error)) ([]byte, error) {
	var request Request
	if err := decode(v, body, &request); err != nil {
		return nil, err
	}
	reply, err := do(ctx, request)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(reply)
	if err != nil {
		return nil, fmt.Errorf("encode the answer to %s: %w", v, err)
	}
	if len(b) > MaxText {
		return nil, pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "the answer to %s of %d bytes is longer than %d", v, len(b), MaxText)
	}
	return b, nil
}
