package node

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var rewrite = flag.Bool("rewrite-page", false, "write the table of docs/metrics.md anew")

const metricsPage = "../docs/metrics.md"

// Marks around the table in the page.
const tableBegins, tableEnds = "<!-- metrics -->\n", "<!-- end -->\n"

// metricsTable is the table of all metrics as the page has it.
func metricsTable() string {
	var b strings.Builder
	b.WriteString("| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n")
	for _, m := range metrics {
		kind := "gauge"
		switch {
		case m.buckets != nil:
			kind = "histogram"
		case m.kind == prometheus.CounterValue:
			kind = "counter"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, kind, strings.Join(m.labels, ", "), m.help)
	}
	return b.String()
}

// docs/metrics.md has every metric there is, and no other.
func TestMetricsPage(t *testing.T) {
	page, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(page), tableBegins)
	table, after, ok := strings.Cut(rest, tableEnds)
	if !ok {
		t.Fatalf("%s: the table does not stand between %q and %q", metricsPage, tableBegins, tableEnds)
	}
	if table == metricsTable() {
		return
	}
	if !*rewrite {
		t.Fatalf("%s is not what there is: go test ./node -run %s -rewrite-page", metricsPage, t.Name())
	}
	if err := os.WriteFile(metricsPage, []byte(before+tableBegins+metricsTable()+tableEnds+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
