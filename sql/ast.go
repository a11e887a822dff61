package sql

// The syntax tree: what the parser read, before any name or type is looked up. A pos is the byte
// offset in the query string to report errors at; PostgreSQL reports a binary operator at the
// operator, everything else at its first token.
type pos int

func (p pos) at() int { return int(p) }

// A node is an expression.
type node interface{ at() int }

type (
	// literalNode is a string or number as written; its type depends on what surrounds it.
	literalNode struct {
		pos
		kind tokenKind // tokString, tokInt or tokNumber
		text string
	}
	nullNode struct{ pos }
	boolNode struct {
		pos
		value bool
	}
	paramNode struct {
		pos
		index int // from 0
	}
	columnNode struct {
		pos
		table, name string // table is "" if not qualified
	}
	unaryNode struct {
		pos
		op string
		x  node
	}
	binaryNode struct {
		pos
		op   string
		l, r node
	}
	// logicNode is a chain of ANDs or of ORs, flattened.
	logicNode struct {
		pos
		and  bool
		args []node
	}
	notNode struct {
		pos
		x node
	}
	// isNode is x IS [NOT] NULL, TRUE, FALSE or UNKNOWN.
	isNode struct {
		pos
		x    node
		what string
		not  bool
	}
	// distinctNode is l IS [NOT] DISTINCT FROM r.
	distinctNode struct {
		pos
		l, r node
		not  bool
	}
	inNode struct {
		pos
		x    node
		list []node
		sub  *subqueryNode // instead of list
		not  bool
	}
	betweenNode struct {
		pos
		x, lo, hi node
		symmetric bool // the bounds in either order
		not       bool
	}
	likeNode struct {
		pos
		x, pattern node
		escape     node // nil: the backslash
		fold, not  bool // fold: ILIKE
	}
	castNode struct {
		pos // of the operator, or of CAST
		x   node
		typ Type
	}
	callNode struct {
		pos
		name string
		args []node
		star bool // count(*)
		over *windowNode

		// Of an aggregate.
		distinct bool
		order    []orderItem
		filter   node
	}
	// windowNode is what follows OVER.
	windowNode struct {
		partition []node
		order     []orderItem
	}
	caseNode struct {
		pos
		operand node // nil in CASE WHEN condition …
		whens   []whenClause
		orElse  node // nil if absent
	}
	// subqueryNode is (SELECT …) as a value, EXISTS (SELECT …) or ARRAY(SELECT …).
	subqueryNode struct {
		pos
		kind  subqueryKind
		query *selectStmt
	}
	// anyNode is l op ANY (r) or l op ALL (r), where r is an array or a subquery.
	anyNode struct {
		pos
		op   string
		l, r node
		all  bool
	}
	// rowNode is (a, b) or ROW(a, b), which is only compared with another one.
	rowNode struct {
		pos
		args []node
	}
	// arrayNode is ARRAY[…].
	arrayNode struct {
		pos
		elems []node
	}
	// subscriptNode is x[index].
	subscriptNode struct {
		pos
		x, index node
	}
	// fieldNode is (x).name, or (x).* if name is "".
	fieldNode struct {
		pos
		x    node
		name string
	}
	// collateNode is x COLLATE name.
	collateNode struct {
		pos
		x    node
		name string
	}
	// defaultNode is DEFAULT in a VALUES list or SET clause.
	defaultNode struct{ pos }
)

// A subqueryKind says what becomes of a subquery's rows.
type subqueryKind uint8

const (
	subqueryValue  subqueryKind = iota // one column of one row, or NULL
	subqueryExists                     // whether there is any
	subqueryArray                      // one column of all
	subqueryList                       // one column of all, to compare with
)

type whenClause struct{ cond, result node }

// A target is one item of a select or RETURNING list. A nil expr is a star, qualified if table is
// not "".
type target struct {
	pos
	expr  node
	table string
	alias string
}

// A tableRef is what FROM or the target of a write names: kv, a view, a function or a subquery.
type tableRef struct {
	pos
	name    string
	alias   string
	columns []string     // aliases of the columns
	call    *callNode    // FROM f(…)
	ordinal bool         // WITH ORDINALITY
	query   *derivedNode // FROM (SELECT …)
}

// A fromItem is a relation of FROM and how it is joined to those before it.
type fromItem struct {
	tableRef
	comma       bool // not joined: what is joined to it does not see those before
	left, right bool // the rows of which side are kept that match none; both: FULL JOIN
	natural     bool // by all columns of the same names
	on          node // nil: with every row
	using       []columnName
}

// A withQuery is name [(column, …)] AS (SELECT …) after WITH.
type withQuery struct {
	tableRef  // the name, its columns, and the query
	recursive bool
}

// A derivedNode is a chain of SELECTs between UNIONs; it is also how SELECT DISTINCT is carried out.
type derivedNode struct {
	arms     []*selectStmt
	distinct []bool // after arms[i] is added, equal rows become one
	values   bool   // it was written as VALUES
}

type orderItem struct {
	expr       node
	desc       bool
	nullsFirst bool
}

type assignment struct {
	pos
	column string
	value  node
}

type columnName struct {
	pos
	name string
}

// A statementNode is one statement.
type statementNode interface{ tag() string }

type (
	selectStmt struct {
		pos
		distinct      bool
		targets       []target
		from          []fromItem
		where         node
		groupBy       []node
		groupAll      bool // groupBy is all that is selected: SELECT DISTINCT
		having        node
		with          []withQuery
		arms          *derivedNode // of UNION, which from is made of
		probe         []target     // of EXISTS, which this SELECT stands for: its first row decides
		orderBy       []orderItem
		hidden        int // so many of the last targets are there to sort by
		limit, offset node
	}
	insertStmt struct {
		with      []withQuery
		table     tableRef
		columns   []columnName // nil if not listed
		rows      [][]node
		query     *selectStmt // instead of rows
		conflict  *conflictClause
		returning []target
	}
	conflictClause struct {
		pos
		target   []columnName // empty if none is given
		targetAt int          // of its parenthesis
		set      []assignment // nil: DO NOTHING
		where    node
	}
	updateStmt struct {
		with      []withQuery
		table     tableRef
		set       []assignment
		from      []fromItem // that the table is joined with
		where     node
		returning []target
	}
	deleteStmt struct {
		with      []withQuery
		table     tableRef
		using     []fromItem // that the table is joined with
		where     node
		returning []target
	}
	// transactionStmt is BEGIN, COMMIT, ROLLBACK or SET TRANSACTION.
	transactionStmt struct {
		verb     string // the command tag
		readOnly *bool
		chain    bool
	}
	// savepointStmt is SAVEPOINT, RELEASE or ROLLBACK TO.
	savepointStmt struct {
		verb string // the command tag
		name string
	}
	// setStmt is SET and RESET.
	setStmt struct {
		verb    string // SET or RESET
		name    string
		values  []string // nil: the default
		local   bool
		isReset bool
	}
	// constraintsStmt is SET CONSTRAINTS.
	constraintsStmt struct {
		names []string // nil: all
	}
	// alterSystemStmt is ALTER SYSTEM SET and RESET.
	alterSystemStmt struct {
		name   string   // "" for RESET ALL
		values []string // nil: the value is taken away
	}
	// declareStmt is DECLARE name CURSOR FOR query.
	declareStmt struct {
		name   string
		query  *selectStmt
		scroll bool
		hold   bool
	}
	// fetchStmt is FETCH, or MOVE, which sends nothing.
	fetchStmt struct {
		name   string
		motion motion
		count  int // rows, or which one
		move   bool
	}
	// lockStmt is LOCK TABLE in a mode that keeps nobody out.
	lockStmt       struct{ tables []string }
	closeStmt      struct{ name string } // "" for ALL
	showStmt       struct{ name string }
	discardStmt    struct{ verb string } // DISCARD and UNLISTEN
	deallocateStmt struct{ name string } // "" for ALL
	// prepareStmt is PREPARE name (types) AS statement, and executeStmt EXECUTE name (args).
	prepareStmt struct {
		name       string
		types      []Type
		node       statementNode
		start, end int // where it stands in its query string
	}
	executeStmt struct {
		name string
		args []node
	}
	checkpointStmt struct{}
	// explainStmt is EXPLAIN FAILOVER or EXPLAIN COMMIT.
	explainStmt struct {
		pos
		lsn *string // of COMMIT; nil: FAILOVER
	}
	// explainPlanStmt is EXPLAIN of a statement that has a plan.
	explainPlanStmt struct {
		node    statementNode // a SELECT, INSERT, UPDATE, DELETE or EXECUTE
		options explainOptions
	}
	waitStmt struct {
		pos
		lsn     string
		timeout int64 // milliseconds; 0 for none
	}
)

func (*selectStmt) tag() string        { return "SELECT" }
func (*insertStmt) tag() string        { return "INSERT" }
func (*updateStmt) tag() string        { return "UPDATE" }
func (*deleteStmt) tag() string        { return "DELETE" }
func (s *transactionStmt) tag() string { return s.verb }
func (s *savepointStmt) tag() string   { return s.verb }
func (s *setStmt) tag() string         { return s.verb }
func (*lockStmt) tag() string          { return "LOCK TABLE" }
func (*constraintsStmt) tag() string   { return "SET CONSTRAINTS" }
func (*alterSystemStmt) tag() string   { return "ALTER SYSTEM" }
func (*declareStmt) tag() string       { return "DECLARE CURSOR" }
func (*showStmt) tag() string          { return "SHOW" }
func (*deallocateStmt) tag() string    { return "DEALLOCATE" }
func (*prepareStmt) tag() string       { return "PREPARE" }
func (*executeStmt) tag() string       { return "EXECUTE" }
func (*checkpointStmt) tag() string    { return "CHECKPOINT" }
func (*explainStmt) tag() string       { return "EXPLAIN" }
func (*explainPlanStmt) tag() string   { return "EXPLAIN" }
func (*waitStmt) tag() string          { return "WAIT" }
func (s *discardStmt) tag() string     { return s.verb }

func (s *fetchStmt) tag() string {
	if s.move {
		return "MOVE"
	}
	return "FETCH"
}

func (s *closeStmt) tag() string {
	if s.name == "" {
		return "CLOSE CURSOR ALL"
	}
	return "CLOSE CURSOR"
}
