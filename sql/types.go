package sql

import "github.com/longship-db/longship/pgwire"

// A Type is a PostgreSQL type, by its oid in pg_type.
type Type uint32

// The types values can have. Unknown is that of a literal or parameter not yet resolved. The last three
// are what functions take: any type, any array, and that array's element.
const (
	Bool        Type = 16
	Bytea       Type = 17
	Char        Type = 18 // "char", a single byte
	Name        Type = 19
	Int8        Type = 20
	Int2        Type = 21
	Int2Vector  Type = 22
	Int4        Type = 23
	Regproc     Type = 24
	Text        Type = 25
	OID         Type = 26
	XID         Type = 28
	OIDVector   Type = 30
	JSON        Type = 114
	NodeTree    Type = 194
	Float4      Type = 700
	Float8      Type = 701
	Unknown     Type = 705
	Inet        Type = 869
	BoolArray   Type = 1000
	CharArray   Type = 1002
	NameArray   Type = 1003
	Int2Array   Type = 1005
	Int4Array   Type = 1007
	TextArray   Type = 1009
	Int8Array   Type = 1016
	Float4Array Type = 1021
	OIDArray    Type = 1028
	RegtypeArr  Type = 2211
	ACLArray    Type = 1034
	Varchar     Type = 1043
	Date        Type = 1082
	Time        Type = 1083
	Timestamp   Type = 1114
	Timestamptz Type = 1184
	Interval    Type = 1186
	Numeric     Type = 1700
	Regprocsig  Type = 2202 // regprocedure
	Regoperator Type = 2204
	Regclass    Type = 2205
	Regtype     Type = 2206
	Record      Type = 2249
	Void        Type = 2278
	UUID        Type = 2950
	PgLSN       Type = 3220
	JSONB       Type = 3802
	Regnsp      Type = 4089
	Regrole     Type = 4096
	XID8        Type = 5069

	Float8Array      Type = 1022
	TimestampArray   Type = 1115
	DateArray        Type = 1182
	TimestamptzArray Type = 1185
	IntervalArray    Type = 1187
	NumericArray     Type = 1231
	UUIDArray        Type = 2951
	LSNArray         Type = 3221

	// indexKey is what information_schema._pg_expandarray returns, the only record whose fields can be
	// selected: an element and its number. Clients see a record.
	indexKey Type = 1

	Any        Type = 2276
	AnyArray   Type = 2277
	AnyElement Type = 2283
	Trigger    Type = 2279
)

// A typeInfo describes a type: its name in messages and in pg_type, its typlen (−1: variable), its family,
// within which values compare with each other, and its typcategory.
type typeInfo struct {
	name, typname string
	size          int16
	family        family
	category      byte
	elem          Type // of an array
}

// A family is a group of types that compare with each other.
type family uint8

const (
	familyNone family = iota
	familyBool
	familyText
	familyNumber
	familyID // oid, xid, and the oids with a name
	familyLSN
	familyTime
	familyInterval
	familyInet
	familyBytea
	familyClock
	familyUUID
	familyXID8
	familyArray
)

var typeInfos = map[Type]typeInfo{
	Bool:        {"boolean", "bool", 1, familyBool, 'B', 0},
	Bytea:       {"bytea", "bytea", -1, familyBytea, 'U', 0},
	Char:        {`"char"`, "char", 1, familyText, 'Z', 0},
	Name:        {"name", "name", 64, familyText, 'S', 0},
	Int8:        {"bigint", "int8", 8, familyNumber, 'N', 0},
	Int2:        {"smallint", "int2", 2, familyNumber, 'N', 0},
	Int2Vector:  {"int2vector", "int2vector", -1, familyArray, 'A', Int2},
	Int4:        {"integer", "int4", 4, familyNumber, 'N', 0},
	Regproc:     {"regproc", "regproc", 4, familyID, 'N', 0},
	Text:        {"text", "text", -1, familyText, 'S', 0},
	OID:         {"oid", "oid", 4, familyID, 'N', 0},
	XID:         {"xid", "xid", 4, familyID, 'U', 0},
	OIDVector:   {"oidvector", "oidvector", -1, familyArray, 'A', OID},
	JSON:        {"json", "json", -1, familyNone, 'U', 0},
	NodeTree:    {"pg_node_tree", "pg_node_tree", -1, familyText, 'Z', 0},
	Float4:      {"real", "float4", 4, familyNumber, 'N', 0},
	Float8:      {"double precision", "float8", 8, familyNumber, 'N', 0},
	Unknown:     {"unknown", "unknown", -2, familyText, 'X', 0},
	Inet:        {"inet", "inet", -1, familyInet, 'I', 0},
	BoolArray:   {"boolean[]", "_bool", -1, familyArray, 'A', Bool},
	CharArray:   {`"char"[]`, "_char", -1, familyArray, 'A', Char},
	NameArray:   {"name[]", "_name", -1, familyArray, 'A', Name},
	Int2Array:   {"smallint[]", "_int2", -1, familyArray, 'A', Int2},
	Int4Array:   {"integer[]", "_int4", -1, familyArray, 'A', Int4},
	TextArray:   {"text[]", "_text", -1, familyArray, 'A', Text},
	Int8Array:   {"bigint[]", "_int8", -1, familyArray, 'A', Int8},
	Float4Array: {"real[]", "_float4", -1, familyArray, 'A', Float4},
	OIDArray:    {"oid[]", "_oid", -1, familyArray, 'A', OID},
	RegtypeArr:  {"regtype[]", "_regtype", -1, familyArray, 'A', Regtype},
	ACLArray:    {"aclitem[]", "_aclitem", -1, familyArray, 'A', Text},
	Varchar:     {"character varying", "varchar", -1, familyText, 'S', 0},
	Date:        {"date", "date", 4, familyTime, 'D', 0},
	Time:        {"time without time zone", "time", 8, familyClock, 'D', 0},
	Timestamp:   {"timestamp without time zone", "timestamp", 8, familyTime, 'D', 0},
	Timestamptz: {"timestamp with time zone", "timestamptz", 8, familyTime, 'D', 0},
	Interval:    {"interval", "interval", 16, familyInterval, 'T', 0},
	Numeric:     {"numeric", "numeric", -1, familyNumber, 'N', 0},
	Regprocsig:  {"regprocedure", "regprocedure", 4, familyID, 'N', 0},
	Regoperator: {"regoperator", "regoperator", 4, familyID, 'N', 0},
	Regclass:    {"regclass", "regclass", 4, familyID, 'N', 0},
	Regtype:     {"regtype", "regtype", 4, familyID, 'N', 0},
	Record:      {"record", "record", -1, familyNone, 'P', 0},
	Void:        {"void", "void", 4, familyNone, 'P', 0},
	UUID:        {"uuid", "uuid", 16, familyUUID, 'U', 0},
	PgLSN:       {"pg_lsn", "pg_lsn", 8, familyLSN, 'U', 0},
	JSONB:       {"jsonb", "jsonb", -1, familyNone, 'U', 0},
	Regnsp:      {"regnamespace", "regnamespace", 4, familyID, 'N', 0},
	Regrole:     {"regrole", "regrole", 4, familyID, 'N', 0},
	XID8:        {"xid8", "xid8", 8, familyXID8, 'U', 0},
	indexKey:    {"record", "record", -1, familyNone, 'P', 0},
	Any:         {`"any"`, "any", 4, familyNone, 'P', 0},
	AnyArray:    {"anyarray", "anyarray", -1, familyNone, 'P', 0},
	AnyElement:  {"anyelement", "anyelement", 4, familyNone, 'P', 0},
	Trigger:     {"trigger", "trigger", 4, familyNone, 'P', 0},

	Float8Array:      {"double precision[]", "_float8", -1, familyArray, 'A', Float8},
	TimestampArray:   {"timestamp without time zone[]", "_timestamp", -1, familyArray, 'A', Timestamp},
	DateArray:        {"date[]", "_date", -1, familyArray, 'A', Date},
	TimestamptzArray: {"timestamp with time zone[]", "_timestamptz", -1, familyArray, 'A', Timestamptz},
	IntervalArray:    {"interval[]", "_interval", -1, familyArray, 'A', Interval},
	NumericArray:     {"numeric[]", "_numeric", -1, familyArray, 'A', Numeric},
	UUIDArray:        {"uuid[]", "_uuid", -1, familyArray, 'A', UUID},
	LSNArray:         {"pg_lsn[]", "_pg_lsn", -1, familyArray, 'A', PgLSN},
}

// String is the type's name as PostgreSQL's messages spell it.
func (t Type) String() string { return typeInfos[t].name }

func (t Type) family() family { return typeInfos[t].family }

// elem is the type of an array's elements, 0 if t is no array.
func (t Type) elem() Type { return typeInfos[t].elem }

// arrayOf is the type of arrays of t, 0 if there is none.
func arrayOf(t Type) Type {
	switch t {
	case Varchar, Unknown:
		return TextArray
	case Regproc, Regprocsig, Regoperator, Regclass, Regnsp, Regrole:
		return OIDArray
	}
	for array, info := range typeInfos {
		if info.elem == t && array != Int2Vector && array != OIDVector && array != ACLArray {
			return array
		}
	}
	return 0
}

// isReg reports whether t is an oid that is shown as the name of what it stands for.
func (t Type) isReg() bool { return t.family() == familyID && t != OID && t != XID }

// isNumber reports whether arithmetic is defined on t.
func (t Type) isNumber() bool { return t.family() == familyNumber }

// typeNames are the spellings a cast accepts, after folding.
var typeNames = map[string]Type{
	"bool": Bool, "boolean": Bool,
	"name": Name, "text": Text, "varchar": Varchar,
	"int2": Int2, "smallint": Int2,
	"int4": Int4, "int": Int4, "integer": Int4,
	"int8": Int8, "bigint": Int8,
	"oid": OID, "xid": XID,
	"float8": Float8, "float": Float8,
	"numeric": Numeric, "decimal": Numeric, "dec": Numeric,
	"float4": Float4, "real": Float4, "int2vector": Int2Vector, "oidvector": OIDVector,
	"regproc": Regproc, "regprocedure": Regprocsig, "regoperator": Regoperator, "regclass": Regclass, "regtype": Regtype, "regnamespace": Regnsp, "regrole": Regrole,
	"inet": Inet, "timestamptz": Timestamptz, "interval": Interval, "pg_lsn": PgLSN,
	"date": Date, "timestamp": Timestamp, "time": Time, "bytea": Bytea, "uuid": UUID, "json": JSON, "jsonb": JSONB, "xid8": XID8,
}

// A Column is a column of a view or of a function that returns a record.
type Column struct {
	Name string
	Type Type
}

// wireColumn describes a result column to the client.
func wireColumn(name string, t Type) pgwire.Column {
	if t == indexKey {
		t = Record
	}
	return pgwire.Column{Name: name, Type: uint32(t), Size: typeInfos[t].size, Mod: -1}
}

// implicitly reports whether a value of type from may stand where to is wanted without a cast.
func implicitly(from, to Type) bool {
	switch {
	case from == to, from == Unknown, to == Any, to == AnyElement:
		return true
	case to == AnyArray:
		return from.elem() != 0
	case from.family() == familyText && from != Unknown && (to == Text || to == Varchar):
		return true
	case from.isNumber() && to.isNumber():
		return numberRank(from) < numberRank(to)
	case from.family() == familyTime && to.family() == familyTime:
		return timeRank(from) < timeRank(to)
	case from.isReg():
		return to == OID
	case from == OID:
		return to.isReg()
	case from == Int4 || from == Int8 || from == Int2:
		return to.family() == familyID && to != XID
	}
	return false
}

// timeRank orders the types of times by what they convert to implicitly.
func timeRank(t Type) int {
	switch t {
	case Date:
		return 1
	case Timestamp:
		return 2
	default:
		return 3
	}
}

// numberRank orders the number types by what they convert to implicitly.
func numberRank(t Type) int {
	switch t {
	case Int2:
		return 1
	case Int4:
		return 2
	case Int8:
		return 3
	case Numeric:
		return 4
	case Float4:
		return 5
	default:
		return 6
	}
}

// castable reports whether from::to exists. Everything converts from and to text by its text form.
func castable(from, to Type) bool {
	switch {
	case implicitly(from, to), from.family() == familyText, to.family() == familyText && to != Unknown:
		return true
	case from.isNumber() && to.isNumber():
		return true
	case from.family() == familyTime && to.family() == familyTime, from.family() == familyTime && from != Date && to == Time:
		return true
	case from == JSON && to == JSONB, from == JSONB && to == JSON, from == XID8 && to == XID:
		return true
	case from.elem() != 0 && to.elem() != 0:
		return castable(from.elem(), to.elem())
	case from == Bool && to == Int4, from == Int4 && to == Bool:
		return true
	case from.family() == familyID && from != XID && (to == Int4 || to == Int8):
		return true
	}
	return false
}
