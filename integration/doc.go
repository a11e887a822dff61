// Package integration runs whole clusters of real longship processes, and against them the clients
// that PostgreSQL 15 ships: psql, pgbench, pg_receivewal, pg_waldump and others.
//
// The binary is the one that LONGSHIP_BIN names, or is built from cmd/longship. PostgreSQL's programs
// are looked for in the folder PGBIN, by default that of Debian's postgresql-15 packages, and then on
// the PATH; a test whose program is missing skips itself and names it. A test that fails leaves data
// directories and logs behind if go test is run with -artifacts. LONGSHIP_LONG=1 makes the tests
// that repeat something repeat it more often. Benchmarks, of which docs/performance.md tells, run only
// with LONGSHIP_BENCH=ROUNDS; LONGSHIP_BENCH_SCALE=0.01 makes them small.
//
// Nothing waits by sleeping: tests wait for a line of output, for a position, for a process to end,
// or, where no event tells of a state, for a query to give the answer (see node.await).
package integration
