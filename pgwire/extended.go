package pgwire

import (
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// What is taken to be the cost, in bytes, of a statement or portal beside its text or data, of a parameter beside its
// value, of its type wherever that is kept, and of its format.
const (
	objectCost = 1 << 10
	valueCost  = 24
	typeCost   = 16
	formatCost = 2
)

// A prepared is a prepared statement as the protocol knows it.
type prepared struct {
	name       string
	st         Statement
	paramTypes []uint32
	columns    []Column // nil: returns no rows
	query      string   // the beginning of its text
	since      time.Time
	fromSQL    bool
	cost       int // bytes accounted for
	size       int // bytes of what was made of the text
	uses       int // by its name, and by portals
}

// release lets go of a statement when nobody uses it any more: portals live on when it has been closed or replaced.
func (v *conversation) release(ps *prepared) {
	if ps.uses--; ps.uses == 0 {
		v.letGo(ps.cost)
		_ = v.share.hold(-ps.size) // less, which cannot fail
	}
}

// extendedMessage acts on a message of extended query. After an error the rest counts for nothing
// until Sync.
func (v *conversation) extendedMessage(typ byte, body []byte, tooLong *Error) error {
	err := error(tooLong)
	if tooLong == nil {
		err = v.extended(typ, body)
		v.decoded = message{} // or an idle connection would hold it
	}
	if err == nil {
		return nil
	}
	v.skipping = true
	return v.fail(v.ctx, err)
}

func (v *conversation) extended(typ byte, body []byte) error {
	switch typ {
	case 'P':
		if err := v.decoded.parse.Decode(body); err != nil {
			return malformed(err)
		}
		return v.parseMessage(&v.decoded.parse)
	case 'B':
		if err := v.decoded.bind.Decode(body); err != nil {
			return malformed(err)
		}
		return v.bindMessage(&v.decoded.bind)
	case 'D':
		if err := v.decoded.describe.Decode(body); err != nil {
			return malformed(err)
		}
		return v.describeMessage(v.decoded.describe.ObjectType, v.decoded.describe.Name)
	case 'E':
		if err := v.decoded.execute.Decode(body); err != nil {
			return malformed(err)
		}
		return v.executeMessage(v.decoded.execute.Portal, v.decoded.execute.MaxRows)
	default:
		if err := v.decoded.close.Decode(body); err != nil {
			return malformed(err)
		}
		return v.closeMessage(v.decoded.close.ObjectType, v.decoded.close.Name)
	}
}

// parseMessage makes a prepared statement. The unnamed one is replaced, a named one never.
func (v *conversation) parseMessage(m *pgproto3.Parse) error {
	if m.Name == "" {
		v.dropStatement("")
	} else if v.statements[m.Name] != nil {
		return Errorf(CodeDuplicatePreparedStatement, `prepared statement "%s" already exists`, m.Name)
	}
	cost := objectCost + len(m.Name) + len(m.Query) + len(m.ParameterOIDs)*typeCost
	if err := v.hold(cost); err != nil {
		return err
	}
	query := briefly(m.Query)
	ctx := v.beginWork(query)
	st, err := v.session.Parse(ctx, m.Query, m.ParameterOIDs)
	size := sizeOf(st)
	if err == nil {
		err = v.share.hold(size)
	}
	if err != nil {
		v.letGo(cost)
		err = clientError(ctx, err) // here: the end of work may renew the context
		v.endWork()
		return err
	}
	v.endWork()
	ps := &prepared{name: m.Name, st: st, paramTypes: st.ParamTypes(), columns: st.Columns(), query: query, cost: cost, size: size, uses: 1}
	if m.Name != "" { // the unnamed one nobody sees
		ps.since = time.Now()
	}
	v.statements[m.Name] = ps
	v.Send(parseComplete)
	return nil
}

// statement finds a prepared statement.
func (v *conversation) statement(name string) (*prepared, error) {
	switch ps := v.statements[name]; {
	case ps != nil:
		return ps, nil
	case name == "":
		return nil, Errorf(CodeInvalidSQLStatementName, "unnamed prepared statement does not exist")
	}
	return nil, Errorf(CodeInvalidSQLStatementName, `prepared statement "%s" does not exist`, name)
}

// bindMessage makes a portal: a statement with its parameters, ready to run.
func (v *conversation) bindMessage(m *pgproto3.Bind) error {
	ps, err := v.statement(m.PreparedStatement)
	if err != nil {
		return err
	}
	columns := ps.st.Columns() // FETCH has those that its cursor has now
	if err := checkBind(m, ps, columns); err != nil {
		return err
	}
	if m.DestinationPortal != "" && v.lookUp(m.DestinationPortal) != nil {
		return Errorf(CodeDuplicateCursor, `cursor "%s" already exists`, m.DestinationPortal)
	}
	args := Args{Values: m.Parameters, Formats: m.ParameterFormatCodes, ResultFormats: m.ResultFormatCodes}
	if err := v.session.Bind(ps.st, args); err != nil {
		return ofPortal(err, m.DestinationPortal)
	}
	v.dropPortal(m.DestinationPortal)
	p := &portal{name: m.DestinationPortal, ps: ps, columns: columns}
	p.cost = objectCost + len(p.name) + len(m.Parameters)*valueCost + (len(m.ParameterFormatCodes)+len(m.ResultFormatCodes))*formatCost
	for _, value := range m.Parameters {
		p.cost += len(value)
	}
	if err := v.hold(p.cost); err != nil {
		return err
	}
	p.args = args
	ps.uses++
	keepValues(p.args.Values)
	v.portals[p.name] = p
	v.Send(bindComplete)
	return nil
}

// checkBind compares a Bind message with its statement, whose result has these columns.
func checkBind(m *pgproto3.Bind, ps *prepared, columns []Column) error {
	params, formats, results := len(m.Parameters), len(m.ParameterFormatCodes), len(m.ResultFormatCodes)
	switch {
	case formats > 1 && formats != params:
		return protocolViolation("bind message has %d parameter formats but %d parameters", formats, params)
	case params != len(ps.paramTypes):
		return protocolViolation(`bind message supplies %d parameters, but prepared statement "%s" requires %d`,
			params, ps.name, len(ps.paramTypes))
	case results > 1 && results != len(columns):
		return protocolViolation("bind message has %d result formats but query has %d columns", results, len(columns))
	}
	return checkFormats(m.ParameterFormatCodes)
}

func checkFormats(codes []int16) error {
	for _, code := range codes {
		if code != 0 && code != 1 {
			return Errorf(CodeInvalidParameterValue, "unsupported format code: %d", code)
		}
	}
	return nil
}

// ofPortal adds the portal's name to the context of an error about its parameters.
func ofPortal(err error, portal string) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Where == "" {
		return err
	}
	at := *e
	if portal == "" {
		return at.WithContext("unnamed portal %s", e.Where)
	}
	return at.WithContext(`portal "%s" %s`, portal, e.Where)
}

// keepValues copies values, which belong to the input buffer, into one piece of memory and has the slice
// point there. NULL stays nil, and an empty value does not become NULL.
func keepValues(values [][]byte) {
	n := 0
	for _, value := range values {
		n += len(value)
	}
	kept := make([]byte, 0, max(n, 1))
	for i, value := range values {
		if value != nil {
			start := len(kept)
			kept = append(kept, value...)
			values[i] = kept[start:len(kept):len(kept)]
		}
	}
}

// describeMessage says what a statement takes and returns, or what a portal returns.
func (v *conversation) describeMessage(object byte, name string) error {
	switch object {
	case 'S':
		ps, err := v.statement(name)
		if err != nil {
			return err
		}
		v.Send(&pgproto3.ParameterDescription{ParameterOIDs: ps.paramTypes})
		v.describeRows(ps.columns, nil)
	case 'P':
		p, err := v.portal(name)
		if err != nil {
			return err
		}
		v.describeRows(p.columns, p.args.ResultFormats)
	default:
		return protocolViolation("invalid DESCRIBE message subtype %d", object)
	}
	return nil
}

func (v *conversation) describeRows(columns []Column, formats []int16) {
	if columns == nil {
		v.Send(noData)
	} else {
		v.out.rowDescription(columns, formats)
	}
}

// executeMessage leaves the work to runPending.
func (v *conversation) executeMessage(name string, maxRows uint32) error {
	p, err := v.portal(name)
	if err != nil {
		return err
	}
	if maxRows > math.MaxInt32 {
		maxRows = 0 // a negative limit is none
	}
	v.pending = execution{portal: p, maxRows: int(maxRows)}
	if p.ps != nil && copiesIn(p.ps.st) {
		return v.runPending(false)
	}
	return nil
}

// runPending runs the Execute that waited for the next message. final: that message is Sync.
func (v *conversation) runPending(final bool) error {
	e := v.pending
	v.pending = execution{}
	ctx := v.beginWork(e.query())
	defer v.endWork()
	if err := v.run(ctx, e, final); err != nil {
		v.skipping = true
		return v.fail(ctx, err)
	}
	return nil
}

// closeMessage drops a statement or portal. There need not be one.
func (v *conversation) closeMessage(object byte, name string) error {
	switch object {
	case 'S':
		v.dropStatement(name)
	case 'P':
		v.dropPortal(name)
	default:
		return protocolViolation("invalid CLOSE message subtype %d", object)
	}
	v.Send(closeComplete)
	return nil
}

// sizeOf is what a statement takes beside its text, in bytes.
func sizeOf(st Statement) int {
	if s, ok := st.(SizedStatement); ok {
		return s.Size()
	}
	return 0
}

// hold accounts for n more bytes kept between messages.
func (v *conversation) hold(n int) error {
	limit := v.server.cfg.MaxSessionMemory
	if n > limit-v.held {
		v.dropGone()
	}
	if n > limit-v.held {
		return Errorf(CodeOutOfMemory, "prepared statements, portals and cursors of this session exceed %d bytes", limit).
			WithHint("Close those no longer needed, or fetch without a row limit.")
	}
	if err := v.share.hold(n); err != nil {
		return err
	}
	v.held += n
	return nil
}

// letGo takes back what hold has accounted for.
func (v *conversation) letGo(n int) {
	v.held -= n
	_ = v.share.hold(-n) // less, which cannot fail
}

func (v *conversation) dropStatement(name string) {
	if ps := v.statements[name]; ps != nil {
		delete(v.statements, name)
		v.release(ps)
	}
}

// Prepare keeps a statement under a name for a session that runs PREPARE. Only the session's own Execute may call it.
func (c *Conn) Prepare(name, query string, st Statement) error {
	v := c.sql
	if v.statements[name] != nil {
		return Errorf(CodeDuplicatePreparedStatement, `prepared statement "%s" already exists`, name)
	}
	cost, size := objectCost+len(name)+len(query), sizeOf(st)
	if err := v.hold(cost); err != nil {
		return err
	}
	if err := v.share.hold(size); err != nil {
		v.letGo(cost)
		return err
	}
	v.statements[name] = &prepared{
		name: name, st: st, paramTypes: st.ParamTypes(), columns: st.Columns(), query: briefly(query), cost: cost, size: size, uses: 1,
		since: time.Now(), fromSQL: true,
	}
	return nil
}

// A PreparedStatement is what a session shows of one.
type PreparedStatement struct {
	Name, Query string // the beginning of its text
	ParamTypes  []uint32
	Since       time.Time
	FromSQL     bool // PREPARE has made it
}

// PreparedStatements lists the prepared statements that have a name, by that.
func (c *Conn) PreparedStatements() []PreparedStatement {
	var list []PreparedStatement
	for name, p := range c.sql.statements {
		if name != "" {
			list = append(list, PreparedStatement{name, p.query, p.paramTypes, p.since, p.fromSQL})
		}
	}
	slices.SortFunc(list, func(a, b PreparedStatement) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Prepared finds a prepared statement for a session that runs EXECUTE.
func (c *Conn) Prepared(name string) (Statement, error) {
	ps, err := c.sql.statement(name)
	if err != nil {
		return nil, err
	}
	return ps.st, nil
}

// Deallocate drops a prepared statement for a session that runs DEALLOCATE. It reports false if there
// is none of that name. Only the session's own Execute may call it.
func (c *Conn) Deallocate(name string) bool {
	if c.sql == nil || c.sql.statements[name] == nil {
		return false
	}
	c.sql.dropStatement(name)
	return true
}

// DeallocateAll drops all prepared statements, see Deallocate.
func (c *Conn) DeallocateAll() {
	if c.sql == nil {
		return
	}
	for name := range c.sql.statements {
		c.sql.dropStatement(name)
	}
}

func (v *conversation) dropPortal(name string) {
	if p := v.portals[name]; p != nil {
		if p.cursor != nil {
			p.cursor.Close()
		}
		v.letGo(p.cost)
		delete(v.portals, name)
		if p.ps != nil {
			v.release(p.ps)
		}
	}
}

// failPortals is what becomes of the portals when something fails: those of a block cannot be run any more,
// those of an implicit transaction are gone. What becomes of cursors the session knows: those older than a
// savepoint live on.
func (v *conversation) failPortals() {
	if v.session.TxStatus() != 'E' {
		v.dropPortals()
		return
	}
	for _, p := range v.portals {
		if p.isHeld() {
			continue
		}
		v.letGo(len(p.rows))
		p.cost -= len(p.rows)
		p.failed, p.rows = true, nil
	}
}

// dropPortals drops those that have lived as long as their transaction.
func (v *conversation) dropPortals() {
	for name, p := range v.portals {
		if !p.isHeld() {
			v.dropPortal(name)
		}
	}
}

func (p *portal) isHeld() bool { return p.cursor != nil && p.cursor.Held() }
