// Package walsender answers replication connections: whoever wants this node's log, a base copy of
// its data, or to manage slots. It speaks PostgreSQL 15's replication protocol (PostgreSQL 15 manual,
// "Streaming Replication Protocol"), so the real pg_receivewal, pg_basebackup and walreceiver stream
// from it, and a native extension of it to members of the cluster.
//
// A [Server] lasts as long as the node's role: one reign as primary, or one time of following. It
// gives each connection a Session, which parses and runs one command after the other. START_REPLICATION
// runs a stream: one goroutine looks at positions and sends what lies below them, one reads the
// client's reports, one watches the clock. Nothing queues for a client: a slow one costs a position.
//
// How much of the log a client may see depends on who it is:
//
//	member        all that is inserted, before it is durable here; its reports are acknowledgements
//	receiver      what is below the horizon, so that no archive holds what a failover could take back
//	named in the  what is flushed here, since the horizon waits for its report
//	  rule
//	on a standby  what is flushed here and below the horizon, whoever asks; all that is flushed, if the
//	              node is sealed and a member fetches
package walsender
