package sql

import (
	_ "embed" // pg_catalog.txt
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The system catalogs: what drivers and psql ask to learn what there is. There is no general catalog behind
// them. Every catalog of PostgreSQL 15 is there with its columns, so that such queries are understood; the
// rows say what kv, the views and the functions are, and most catalogs have none.

// pg_catalog.txt lists the catalogs and their columns.
//
//go:embed pg_catalog.txt
var pgCatalogText string

// OIDs of what there is. Those of PostgreSQL's own objects are PostgreSQL's; views and functions that it
// makes when it is installed are numbered from firstViewOID and firstFuncOID here.
const (
	oidCatalogSchema = 11
	oidPublicSchema  = 2200
	oidInfoSchema    = 13207
	oidOwner         = 10
	oidDatabase      = 5
	oidHeap          = 2
	oidBtree         = 403
	oidDefaultSpace  = 1663
	oidGlobalSpace   = 1664
	oidInternal      = 12 // language
	oidDefaultColl   = 100
	oidCColl         = 950
	oidTextOps       = 3126
	oidClasses       = 1259 // pg_class
	oidExtensions    = 3079 // pg_extension
	encodingUTF8     = 6

	oidTable      = 16384 // kv
	oidIndex      = 16389 // kv_pkey
	oidConstraint = 16390
	firstViewOID  = 12400 // in pg_catalog and information_schema
	firstOwnOID   = 16400 // in public
	firstFuncOID  = 14000
	oidExtension  = 13900 // among what is there from the beginning: pg_dump leaves it and its members out
)

// objects are the relations and functions, numbered and in order; made at the first question, when the
// catalog is complete.
type objects struct {
	once      sync.Once
	relations []object
	byOID     map[uint32]*object
	functions []*Func
	static    map[string][][]Value // rows that are the same for every session, by catalog
	staticMu  sync.Mutex
}

// An object is a relation: kv, its index, a catalog or a view.
type object struct {
	oid     uint32
	schema  uint32
	name    string
	kind    string // pg_class.relkind
	columns []Column
}

// qualifiedName is the object's name, with its schema unless that is searched anyway.
func (o *object) qualifiedName() string {
	if o.schema == oidInfoSchema {
		return "information_schema." + o.name
	}
	return o.name
}

// addSystemCatalogs registers every catalog, and the views of information_schema.
func (c *Catalog) addSystemCatalogs() {
	types := map[string]Type{}
	for t, info := range typeInfos {
		if t != indexKey {
			types[info.typname] = t
		}
	}
	for line := range strings.Lines(pgCatalogText) {
		fields := strings.Fields(line)
		if fields[0] == "#" {
			continue
		}
		oid, err := strconv.ParseUint(fields[1], 10, 32)
		if err != nil {
			panic(fmt.Sprintf("sql: pg_catalog.txt: %v", err))
		}
		v := &view{name: fields[0], oid: uint32(oid)}
		for _, field := range fields[2:] {
			name, typname, _ := strings.Cut(field, ":")
			t, ok := types[strings.Trim(typname, `"`)]
			if !ok {
				t = NodeTree // of a column that is always NULL
			}
			v.columns = append(v.columns, Column{name, t})
		}
		c.addCatalog(v)
	}
	for name, columns := range infoSchemaColumns {
		c.addCatalog(&view{name: "information_schema." + name, columns: columns})
	}
}

func (c *Catalog) addCatalog(v *view) {
	c.addSessionView(v.name, v.columns, func(s *Session) [][]Value { return c.catalogRows(v, s) })
	c.views[v.name].oid = v.oid
}

// described numbers all objects.
func (c *Catalog) described() *objects {
	o := &c.objects
	o.once.Do(func() {
		o.static = map[string][][]Value{}
		o.relations = []object{
			{oidTable, oidPublicSchema, "kv", "r", kvColumns},
			{oidIndex, oidPublicSchema, "kv_pkey", "i", kvColumns[:1]},
		}
		nextView, nextOwn := uint32(firstViewOID), uint32(firstOwnOID)
		for _, name := range slices.Sorted(maps.Keys(c.views)) {
			v := c.views[name]
			obj := object{oid: v.oid, schema: oidCatalogSchema, name: name, kind: "v", columns: v.columns}
			next := &nextView
			switch rest, info := strings.CutPrefix(name, "information_schema."); {
			case info:
				obj.schema, obj.name = oidInfoSchema, rest
			case !strings.HasPrefix(name, "pg_"):
				obj.schema, next = oidPublicSchema, &nextOwn
			case v.oid != 0 && v.oid < 12000: // PostgreSQL's views begin there
				obj.kind = "r"
			}
			if obj.oid == 0 {
				obj.oid = *next
				*next++
			}
			o.relations = append(o.relations, obj)
		}
		o.byOID = map[uint32]*object{}
		for i := range o.relations {
			o.byOID[o.relations[i].oid] = &o.relations[i]
		}
		for _, name := range slices.Sorted(maps.Keys(c.funcs)) {
			o.functions = append(o.functions, c.funcs[name]...)
		}
	})
	return o
}

// relation finds a relation by its name, possibly with a schema.
func (o *objects) relation(name string) *object {
	schema, rest, qualified := strings.Cut(name, ".")
	for i := range o.relations {
		switch obj := &o.relations[i]; {
		case !qualified && obj.name == name && obj.schema != oidInfoSchema:
			return obj
		case qualified && obj.name == rest && schemaNames[obj.schema] == schema:
			return obj
		}
	}
	return nil
}

// function is the function with an OID, nil if there is none.
func (o *objects) function(oid uint32) *Func {
	if i := int64(oid) - firstFuncOID; i >= 0 && i < int64(len(o.functions)) {
		return o.functions[i]
	}
	return nil
}

var schemaNames = map[uint32]string{
	oidCatalogSchema: "pg_catalog", oidPublicSchema: "public", oidInfoSchema: "information_schema",
}

// catalogRows are the rows of a catalog: those that are the same for every session are made once.
func (c *Catalog) catalogRows(v *view, s *Session) [][]Value {
	if rows := sessionCatalogs[v.name]; rows != nil {
		return complete(v, rows(s))
	}
	rows := staticCatalogs[v.name]
	if rows == nil {
		return nil
	}
	o := c.described()
	o.staticMu.Lock()
	defer o.staticMu.Unlock()
	made, ok := o.static[v.name]
	if !ok {
		made = complete(v, rows(o))
		o.static[v.name] = made
	}
	if v.name == "pg_class" {
		return s.frozenNow(v, made)
	}
	return made
}

// frozenNow says in the row of kv that nothing in it depends on a transaction id: that nothing older than the next one
// is there.
func (s *Session) frozenNow(v *view, rows [][]Value) [][]Value {
	rows = slices.Clone(rows)
	i := slices.IndexFunc(v.columns, func(c Column) bool { return c.Name == "relfrozenxid" })
	rows[0] = slices.Clone(rows[0]) // kv, the first of the relations
	rows[0][i] = s.nextXID()
	return rows
}

// nextXID is the transaction id that the next commit gets.
func (s *Session) nextXID() Value {
	if s.catalog.NextXID == nil {
		return XIDValue(0)
	}
	return XIDValue(s.catalog.NextXID())
}

// Fields are a row of a catalog by column; what is not listed is false, 0 or NULL, as the type is.
type Fields map[string]Value

// complete puts the fields of rows in the order of a catalog's columns.
func complete(v *view, rows []Fields) [][]Value {
	made := make([][]Value, len(rows))
	for i, row := range rows {
		made[i] = make([]Value, len(v.columns))
		for k, c := range v.columns {
			value, ok := row[c.Name]
			switch {
			case !ok && v.isZero(c.Type):
				value = Value{typ: c.Type, s: noName(c.Type)}
			case !value.IsNull():
				value.typ = c.Type
			}
			made[i][k] = value
			delete(row, c.Name)
		}
		for name := range row {
			panic("sql: " + v.name + " has no column " + name)
		}
	}
	return made
}

// isZero reports whether what a row does not say of a column of type t is 0 or false, and not NULL.
func (v *view) isZero(t Type) bool {
	switch {
	case strings.HasPrefix(v.name, "information_schema."):
		return false
	case t == Int8 || t == Float8:
		return strings.HasPrefix(v.name, "pg_stat") // counters
	}
	return t == Bool || t == Int2 || t == Int4 || t == OID || t == XID || t.isReg()
}

// noName is how the OID 0 is shown as a name.
func noName(t Type) string {
	if t.isReg() {
		return "-"
	}
	return ""
}
