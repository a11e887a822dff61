// Package pgwire is the server's end of PostgreSQL's frontend/backend protocol, version 3
// (PostgreSQL 15 manual, "Frontend/Backend Protocol"): start-up, cancel requests, simple and
// extended query with pipelining and portals, and replication connections. It knows nothing of what
// is asked: a [Handler] gives each connection a [Session] or a [Replication] that does.
//
// A [Server] runs one goroutine per connection, which reads a message, has the session act on it and
// writes the answer. The messages themselves are pgproto3's; framing is ours ([Conn.Receive]),
// because a server must not allocate what a length word claims before the bytes have come, must be
// able to resume a read that a deadline cut in half, and must tell a malformed message, which is an
// error like any other, from a lost connection.
//
// Answers are collected and written once per Sync, Flush or simple query, or when the buffer is
// full. An Execute waits for the message behind it, which the client must send to get an answer: if
// that is Sync, nothing else can follow in the implicit transaction and the session may run and
// commit the statement as one unit.
//
// A connection ends by its context: a shutdown, an administrator's command or a vanished client
// cancels it with the reason as its cause, and deadlines then wake whatever blocks on the socket.
package pgwire
