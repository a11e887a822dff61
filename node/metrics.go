package node

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/longship-db/longship/wal"
)

// Metrics are worked out when they are asked for, from what the SQL views are worked out from: nothing
// is counted for them alone, but for histograms. Names are those of postgres_exporter, or built like them, for what
// PostgreSQL's views have, and begin with longship_ for the rest. Units are seconds and bytes; an LSN is
// a number of bytes. What is NULL in a view is not there.
//
// Labels are bounded for the life of the process: members and slots of the cluster, states, and as many
// names of receivers as there can be connections.

// A metric is one line of docs/metrics.md.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	buckets    []float64 // of a histogram, which has no kind
	labels     []string
	desc       *prometheus.Desc
}

// metrics are all there are, as far as they are Longship's own.
var metrics []*metric

func gauge(name, help string, labels ...string) *metric {
	return newMetric(prometheus.GaugeValue, name, help, labels)
}

// counter is a metric that only grows, but for the end of a role, which may begin it anew.
func counter(name, help string, labels ...string) *metric {
	return newMetric(prometheus.CounterValue, name, help, labels)
}

func newMetric(kind prometheus.ValueType, name, help string, labels []string) *metric {
	m := &metric{name: name, help: help, kind: kind, labels: labels, desc: prometheus.NewDesc(name, help, labels, nil)}
	metrics = append(metrics, m)
	return m
}

// histogram is a metric that counts how often something took how long, for the life of the process. Its
// buckets, in seconds, are each twice as wide as the one before.
func histogram(name, help string, least float64, buckets int) *metric {
	m := newMetric(0, name, help, nil)
	m.buckets = prometheus.ExponentialBuckets(least, 2, buckets)
	return m
}

// newHistogram is what counts for a node.
func (m *metric) newHistogram() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: m.name, Help: m.help, Buckets: m.buckets})
}

// A scrape is one answer of a collector.
type scrape struct {
	*collector
	out chan<- prometheus.Metric
}

func (s *scrape) put(m *metric, value float64, labels ...string) {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "?")
	}
	s.out <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
}

func (s *scrape) flag(m *metric, on bool, labels ...string) {
	value := 0.0
	if on {
		value = 1
	}
	s.put(m, value, labels...)
}

// oneOf says which of some states it is: 1 for that, 0 for the others.
func (s *scrape) oneOf(m *metric, states []string, is string, labels ...string) {
	for _, state := range states {
		s.flag(m, state == is, append(slices.Clone(labels), state)...)
	}
}

// lsn leaves out what views show as NULL, and so do the next two.
func (s *scrape) lsn(m *metric, at wal.LSN, labels ...string) {
	if at != 0 {
		s.put(m, float64(at), labels...)
	}
}

func (s *scrape) seconds(m *metric, d time.Duration, labels ...string) {
	if d >= 0 {
		s.put(m, d.Seconds(), labels...)
	}
}

func (s *scrape) time(m *metric, at time.Time, labels ...string) {
	if !at.IsZero() {
		s.put(m, float64(at.UnixNano())/1e9, labels...)
	}
}

// A collector is a node as Prometheus sees it. It implements prometheus.Collector.
type collector struct {
	node      *Node
	life      context.Context // of the node: once it has ended, nobody is served any more
	receivers names
}

func newCollector(life context.Context, n *Node) *collector {
	return &collector{node: n, life: life, receivers: names{limit: int(n.settings.Int("max_wal_senders"))}}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range metrics {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector. What needs the disk comes last, and not while that hangs.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := &scrape{collector: c, out: out}
	s.process()
	c.node.latencies.collect(out)
	if !c.node.connected.Load() {
		return
	}
	_, stalled := c.node.stalled()
	s.put(mStalled, stalled.Seconds())
	s.cluster()
	r, _ := c.node.present.load()
	if r != nil {
		s.log(r)
		s.streams(r)
		s.slots(r)
		s.members(r)
	}
	if stalled < slowWrite {
		s.disk(r)
	}
}

// names are free texts that become labels: the first ones are kept, the others share one value, so that
// whoever connects under ever new names does not make ever more series.
type names struct {
	limit int

	mu    sync.Mutex
	known []string
}

// otherNames is the label of those for whom there is no room. Whoever calls itself that is one of them.
const otherNames = "(others)"

// maxLabel is how long a name may be, as in PostgreSQL.
const maxLabel = 63

func (n *names) label(name string) string {
	name = cmp.Or(strings.ToValidUTF8(name[:min(len(name), maxLabel)], "?"), "(none)")
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case slices.Contains(n.known, name):
		return name
	case len(n.known) < n.limit:
		n.known = append(n.known, name)
		return name
	}
	return otherNames
}
