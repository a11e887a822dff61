// Package drill breaks clusters on purpose and checks what they promise: nothing acknowledged is lost or
// un-seen, and the cluster comes back by itself.
//
// A drill runs on a cluster of its own, of real processes on the loopback interface ([Cluster], [Node]).
// Clients read, write, compare and set, and run transactions through pgx, which finds the primary among
// several hosts; others read on every node (work.go and its neighbours). Meanwhile the drill breaks things,
// round after round. Then the load ends, what the clients were told and saw is collected with the tables and
// logs of all nodes ([evidence]), and it is checked ([evidence.check]):
//
//   - every acknowledged write is in the log once, where its client was told, and in every node's table;
//     those of unknown outcome are there at most once, refused ones not at all;
//   - registers are linearizable, key by key (porcupine);
//   - transactions are strictly serializable, reads on any node with the LSN of what the client has seen
//     included (package internal/history);
//   - whatever was read on any node is the table as of one position of the log, which does not go back within
//     a session, nor behind the LSN that the session waited for: nodes show commits in the order of the log;
//   - logs are the same bytes up to the horizon, and each table is what its log says.
//
// # How to add a drill
//
// A [Drill] is a value: a name, what it breaks and what must hold, and a function that breaks it once. Put it
// in the file of its family (kill.go, pause.go, …) or in a new one, and its name in the list in [All]:
//
//	var killStandby = Drill{
//		Name:   "kill-standby",
//		Breaks: "kills a standby with kill -9 and starts it again",
//		Holds:  "the primary stays in office",
//		Shown:  "the signal has ended the standby's process",
//		Round: func(ctx context.Context, r *Run) error {
//			standby, err := r.Standby(ctx)
//			if err != nil {
//				return err
//			}
//			r.Strike("kill -9 of %s, a standby", standby.Name)
//			if err := standby.killed(); err != nil {
//				return err
//			}
//			r.Pause(ctx, time.Second) // up to
//			return standby.Start()
//		},
//	}
//
// Round says what it does with [Run.Strike] just before it does it: from then on the write gap is measured, and
// what the nodes log is in the report. It undoes what does not mend by itself, and need not wait: after each
// round the cluster gets patience to be well again by itself, with commits flowing, all nodes streaming and
// counted, and that it is not is a violation. Whatever else must hold Round checks, and returns an error that
// says what did not. It also has to show that what was broken was felt, as Shown says (shown.go): a round in
// which nothing happened is not tested, and the drill fails. A node that ends although nobody ended it is a
// violation, too, unless the drill has said [Node.MayEnd]. The drill's Flags are given to every node:
// "--allow-faults". Whatever is random comes from [Run.Random], so that a seed repeats the choices, if not the
// timing.
package drill
