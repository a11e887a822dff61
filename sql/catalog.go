package sql

import (
	"context"
	"fmt"
)

// A Catalog is what statements can refer to besides kv. Package node fills it before the first
// session starts; after that it only changes through Settings.
type Catalog struct {
	// Settings are the server-wide parameters.
	Settings *Settings
	// ReadOnlyHint, if set, is the hint of the error for a write on a standby; it names the
	// primary's address.
	ReadOnlyHint func() string
	// NextXID, if set, is the transaction id that the next commit gets; 0 if that is not known.
	NextXID func() uint32

	// Statistics count what sessions have done.
	Statistics Statistics

	views map[string]*view
	funcs map[string][]*Func

	objects objects // what the system catalogs say of all this

	copies copies // those that run

	shared *sharedStatements
}

type view struct {
	name    string
	oid     uint32
	columns []Column
	rows    func(context.Context, *Session) ([][]Value, error)
}

// A Func is a function that statements may call. One of Call, Own, Row and Rows is set.
type Func struct {
	Name     string
	Args     []Type
	Defaults []Value // values of the last len(Defaults) arguments where a call leaves them out
	Result   Type    // Record for a Row function
	NullOK   bool    // called with NULL arguments; otherwise the result is NULL without a call
	Columns  []Column

	// Call computes the value of an ordinary function.
	Call func(ctx context.Context, args []Value) (Value, error)
	// Own does what Call does, for a function to which it matters whose connection calls.
	Own func(ctx context.Context, caller Backend, args []Value) (Value, error)
	// Row computes the one row, of Columns, of a function that returns a record.
	Row func(ctx context.Context, caller Backend, args []Value) ([]Value, error)
	// Rows computes the rows, of Columns, of a function that returns a set of records.
	Rows func(ctx context.Context, args []Value) ([][]Value, error)

	builtin func(e *env, args []Value) (Value, error)
	// set returns the rows of a function that returns a set: of Columns, or else of Result alone.
	set func(e *env, args []Value) ([][]Value, error)
	// variadic: the last argument may be given several times, or not at all.
	variadic bool
}

// NewCatalog returns a Catalog with the functions and views that need nothing but the session.
func NewCatalog(settings *Settings) *Catalog {
	c := &Catalog{Settings: settings, views: map[string]*view{}, funcs: map[string][]*Func{}, shared: newSharedStatements(maxSharedBytes)}
	for i := range builtins {
		c.AddFunc(builtins[i])
	}
	c.addSystemCatalogs()
	c.addSessionView("pg_settings", PgSettingsColumns, (*Session).pgSettings)
	c.addTableStatistics()
	c.AddView("pg_stat_progress_copy", copyProgressColumns, c.copies.rows)
	return c
}

// AddView registers a view. rows is called once per statement; each row holds a value per column.
func (c *Catalog) AddView(name string, columns []Column, rows func(context.Context) ([][]Value, error)) {
	c.views[name] = &view{name: name, columns: columns, rows: func(ctx context.Context, _ *Session) ([][]Value, error) { return rows(ctx) }}
}

// addSessionView registers a view of the session's own state.
func (c *Catalog) addSessionView(name string, columns []Column, rows func(*Session) [][]Value) {
	c.views[name] = &view{name: name, columns: columns, rows: func(_ context.Context, s *Session) ([][]Value, error) { return rows(s), nil }}
}

// AddStatistics registers the rows of a view that pg_catalog.txt lists, by column. What a row does not say is none: 0,
// or NULL for a text or a time. database is the name of the one that there is, as the session calls it.
func (c *Catalog) AddStatistics(name string, rows func(ctx context.Context, database string) ([]Fields, error)) {
	v := c.views[name]
	v.rows = func(ctx context.Context, s *Session) ([][]Value, error) {
		list, err := rows(ctx, s.id.Database)
		return complete(v, list), err
	}
}

// AddFunc registers a function; several of one name are told apart by their arguments. It panics
// on a Func that could not be called.
func (c *Catalog) AddFunc(fn Func) {
	if fn.Rows != nil {
		fn.set = func(e *env, args []Value) ([][]Value, error) { return fn.Rows(e.ctx, args) }
	}
	if fn.Call == nil && fn.Own == nil && fn.Row == nil && fn.builtin == nil && fn.set == nil || len(fn.Defaults) > len(fn.Args) {
		panic(fmt.Sprintf("sql: function %s is incomplete", fn.Name))
	}
	if fn.Row != nil || fn.Rows != nil {
		fn.Result = Record
	}
	c.funcs[fn.Name] = append(c.funcs[fn.Name], &fn)
}

// view finds a view by name, nil if there is none.
func (c *Catalog) view(name string) *view { return c.views[name] }

func (c *Catalog) functions(name string) []*Func { return c.funcs[name] }

// missing are the defaults for a call with n arguments.
func (f *Func) missing(n int) []Value {
	if f.variadic {
		return nil
	}
	return f.Defaults[len(f.Defaults)-(len(f.Args)-n):]
}

// arg is the type of argument i.
func (f *Func) arg(i int) Type { return f.Args[min(i, len(f.Args)-1)] }

// score tells how well args fit: −1 not at all, else the number of exact matches.
func (f *Func) score(args []expr) int {
	least, most := len(f.Args)-len(f.Defaults), len(f.Args)
	if f.variadic {
		least, most = least-1, maxParams
	}
	if len(args) > most || len(args) < least {
		return -1
	}
	score := 0
	for i, arg := range args {
		switch {
		case arg.typ() == f.arg(i):
			score++
		case !implicitly(arg.typ(), f.arg(i)):
			return -1
		}
	}
	return score
}
