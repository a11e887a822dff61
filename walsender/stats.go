package walsender

import (
	"sync"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// noLag is the lag of a client that shows none: NULL.
const noLag time.Duration = -1

// A Stat is one replication connection as pg_stat_replication shows it.
type Stat struct {
	Conn   *pgwire.Conn // who it is, from where, since when
	Name   string       // application_name
	Member bool         // of the cluster
	ID     syncrep.ID   // of the member
	State  syncrep.State

	Sent, Write, Flush, Replay    wal.LSN       // 0: NULL
	WriteLag, FlushLag, ReplayLag time.Duration // negative: NULL

	Sync      syncrep.Status
	ReplyTime time.Time // by the client's clock; zero: NULL

	Silence time.Duration // since the client said something, while it streams

	Backup *BackupStat // nil unless BASE_BACKUP runs
}

// A BackupStat is a running BASE_BACKUP as pg_stat_progress_basebackup shows it.
type BackupStat struct {
	Phase               BackupPhase
	Total               int64 // bytes; negative: not estimated
	Streamed            int64
	TablespacesTotal    int64
	TablespacesStreamed int64
}

// A BackupPhase is what a BASE_BACKUP is doing.
type BackupPhase string

// The phases, by PostgreSQL's names.
const (
	PhaseCheckpoint     BackupPhase = "waiting for checkpoint to finish"
	PhaseEstimating     BackupPhase = "estimating backup size"
	PhaseStreaming      BackupPhase = "streaming database files"
	PhaseWaitingArchive BackupPhase = "waiting for wal archiving to finish"
	PhaseTransferring   BackupPhase = "transferring wal files"
)

// Stats returns a row for each replication connection, by PID.
func (s *Server) Stats() []Stat {
	statuses := make(map[*syncrep.Handle]syncrep.Status)
	if s.cfg.Sync != nil {
		for _, st := range s.cfg.Sync.Snapshot().Streams {
			statuses[st.Handle] = st.Status
		}
	}
	var stats []Stat
	for _, session := range s.sorted() {
		stat := session.progress.stat()
		stat.Conn, stat.Name, stat.Member = session.conn, session.name, !session.id.IsZero()
		stat.ID = session.id
		s.mu.Lock()
		if st := session.streaming; st != nil {
			stat.Sent, stat.Sync = st.sent.Load(), statuses[st.sync]
			stat.Silence = st.silence()
		}
		s.mu.Unlock()
		stats = append(stats, stat)
	}
	return stats
}

// A progress is what a session shows of its running command.
type progress struct {
	mu        sync.Mutex
	current   syncrep.State
	last      report
	lags      [numLags]time.Duration
	measured  bool // lags holds something
	backup    BackupStat
	backingUp bool
}

// A report is a client's status update, held against what it had been sent.
type report struct {
	write, flush, apply, sent wal.LSN
	time                      wal.Timestamp
}

// reset is called at the end of a command: the session is back in state startup.
func (p *progress) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current, p.last, p.measured, p.backup, p.backingUp = syncrep.Startup, report{}, false, BackupStat{}, false
}

func (p *progress) setState(state syncrep.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = state
}

// confirmed is how far the client has the log for good: what it has written, if it reports no flush.
func (p *progress) confirmed() wal.LSN {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.flush == 0 {
		return p.last.write
	}
	return p.last.flush
}

// report takes a status update. Lags stay as they are until a report shows new ones, and are forgotten
// when nothing has moved since the last report and the client has everything.
func (p *progress) report(tracker *lagTracker, r report, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.measured {
		p.lags, p.measured = [numLags]time.Duration{noLag, noLag, noLag}, true
	}
	unmoved := r.write == p.last.write && r.flush == p.last.flush && r.apply == p.last.apply
	forget := unmoved && r.flush == r.sent && r.apply == r.sent
	for kind, lsn := range [numLags]wal.LSN{lagWrite: r.write, lagFlush: r.flush, lagApply: r.apply} {
		if lag, ok := tracker.reached(kind, lsn, now); ok {
			p.lags[kind] = lag
		} else if forget {
			p.lags[kind] = noLag
		}
	}
	p.last = r
}

// stat returns the columns that progress knows.
func (p *progress) stat() Stat {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stat{
		State: p.current,
		Write: p.last.write, Flush: p.last.flush, Replay: p.last.apply,
		WriteLag: noLag, FlushLag: noLag, ReplayLag: noLag,
	}
	if p.measured {
		s.WriteLag, s.FlushLag, s.ReplayLag = p.lags[lagWrite], p.lags[lagFlush], p.lags[lagApply]
		s.ReplyTime = p.last.time.Time()
	}
	if p.backingUp {
		backup := p.backup
		s.Backup = &backup
	}
	return s
}

// updateBackup changes what is shown of a running BASE_BACKUP.
func (p *progress) updateBackup(change func(*BackupStat)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backingUp = true
	change(&p.backup)
}
