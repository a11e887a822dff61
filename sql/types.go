package sql

import "github.com/longship-db/longship/pgwire"

// A Type is a PostgreSQL type, by its oid in pg_type.
type Type uint32

// The types values can have. Unknown is that of a literal or parameter not yet resolved.
const (
	Bool        Type = 16
	Name        Type = 19
	Int8        Type = 20
	Int2        Type = 21
	Int4        Type = 23
	Text        Type = 25
	OID         Type = 26
	XID         Type = 28
	Float8      Type = 701
	Unknown     Type = 705
	Inet        Type = 869
	TextArray   Type = 1009
	Varchar     Type = 1043
	Timestamptz Type = 1184
	Interval    Type = 1186
	Numeric     Type = 1700
	Record      Type = 2249
	Void        Type = 2278
	PgLSN       Type = 3220
)

// A typeInfo describes a type: its name in messages, its typlen (−1: variable) and its family,
// within which values compare with each other.
type typeInfo struct {
	name   string
	size   int16
	family family
}

// A family is a group of types that compare with each other.
type family uint8

const (
	familyNone family = iota
	familyBool
	familyText
	familyNumber
	familyID // oid and xid
	familyLSN
	familyTime
	familyInterval
	familyInet
)

var typeInfos = map[Type]typeInfo{
	Bool:        {"boolean", 1, familyBool},
	Name:        {"name", 64, familyText},
	Int8:        {"bigint", 8, familyNumber},
	Int2:        {"smallint", 2, familyNumber},
	Int4:        {"integer", 4, familyNumber},
	Text:        {"text", -1, familyText},
	OID:         {"oid", 4, familyID},
	XID:         {"xid", 4, familyID},
	Float8:      {"double precision", 8, familyNumber},
	Unknown:     {"unknown", -2, familyText},
	Inet:        {"inet", -1, familyInet},
	TextArray:   {"text[]", -1, familyNone},
	Varchar:     {"character varying", -1, familyText},
	Timestamptz: {"timestamp with time zone", 8, familyTime},
	Interval:    {"interval", 16, familyInterval},
	Numeric:     {"numeric", -1, familyNumber},
	Record:      {"record", -1, familyNone},
	Void:        {"void", 4, familyNone},
	PgLSN:       {"pg_lsn", 8, familyLSN},
}

// String is the type's name as PostgreSQL's messages spell it.
func (t Type) String() string { return typeInfos[t].name }

func (t Type) family() family { return typeInfos[t].family }

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
	"inet": Inet, "timestamptz": Timestamptz, "interval": Interval, "pg_lsn": PgLSN,
}

// A Column is a column of a view or of a function that returns a record.
type Column struct {
	Name string
	Type Type
}

// wireColumn describes a result column to the client.
func wireColumn(name string, t Type) pgwire.Column {
	return pgwire.Column{Name: name, Type: uint32(t), Size: typeInfos[t].size, Mod: -1}
}

// implicitly reports whether a value of type from may stand where to is wanted without a cast.
func implicitly(from, to Type) bool {
	switch {
	case from == to, from == Unknown:
		return true
	case from.family() == familyText && (to == Text || to == Varchar):
		return true
	case from.isNumber() && to.isNumber():
		return numberRank(from) < numberRank(to)
	case from == Int4 || from == Int8 || from == Int2:
		return to == OID
	}
	return false
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
	default:
		return 5
	}
}

// castable reports whether from::to exists. Everything converts from and to text by its text form.
func castable(from, to Type) bool {
	switch {
	case implicitly(from, to), from.family() == familyText, to.family() == familyText && to != Unknown:
		return true
	case from.isNumber() && to.isNumber():
		return true
	case from == Bool && to == Int4, from == Int4 && to == Bool:
		return true
	case from == OID && (to == Int4 || to == Int8):
		return true
	}
	return false
}
