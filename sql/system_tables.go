package sql

import (
	"maps"
	"slices"
	"strings"
)

// staticCatalogs make the rows of the catalogs that are the same for every session.
var staticCatalogs = map[string]func(*objects) []Fields{
	"pg_am":         accessMethods,
	"pg_attribute":  attributes,
	"pg_class":      classes,
	"pg_collation":  collations,
	"pg_constraint": constraints,
	"pg_depend":     members,
	"pg_index":      indexes,
	"pg_language":   languages,
	"pg_namespace":  namespaces,
	"pg_proc":       procedures,
	"pg_tablespace": tablespaces,
	"pg_type":       types,
}

// sessionCatalogs make the rows of those that depend on who asks: there is one role and one database, by
// the names that the client connected with.
var sessionCatalogs = map[string]func(*Session) []Fields{
	"pg_database":  databases,
	"pg_extension": extensions,
	"pg_roles":     roles,
	"pg_authid":    authids,
	"pg_user":      users,
	"pg_tables":    tables,
	"pg_views":     views,
	"pg_indexes":   indexDefinitions,

	"pg_prepared_statements": preparedStatements,

	"information_schema.schemata": schemata,
	"information_schema.tables":   infoTables,
	"information_schema.columns":  infoColumns,

	"information_schema.table_constraints":       tableConstraints,
	"information_schema.key_column_usage":        keyColumnUsage,
	"information_schema.constraint_column_usage": constraintColumnUsage,
}

func classes(o *objects) []Fields {
	var rows []Fields
	for _, obj := range o.relations {
		row := Fields{
			"oid": OIDValue(obj.oid), "relname": NameValue(obj.name), "relnamespace": OIDValue(obj.schema),
			"relowner": OIDValue(oidOwner), "relkind": charValue(obj.kind), "relpersistence": charValue("p"),
			"relnatts": Int4Value(int32(len(obj.columns))), "relispopulated": BoolValue(true),
			"relreplident": charValue("n"), "reltuples": Float8Value(-1),
		}
		switch obj.kind {
		case "r":
			row["relam"] = OIDValue(oidHeap)
			row["relhasindex"] = BoolValue(obj.oid == oidTable)
			if obj.oid == oidTable {
				row["relreplident"] = charValue("d")
			}
		case "i":
			row["relam"] = OIDValue(oidBtree)
		default:
			row["relhasrules"] = BoolValue(true)
		}
		rows = append(rows, row)
	}
	return rows
}

func attributes(o *objects) []Fields {
	var rows []Fields
	for _, obj := range o.relations {
		for i, c := range obj.columns {
			row := Fields{
				"attrelid": OIDValue(obj.oid), "attname": NameValue(c.Name), "atttypid": OIDValue(uint32(c.Type)),
				"attnum": Int4Value(int32(i + 1)), "attlen": Int4Value(int32(typeInfos[c.Type].size)),
				"atttypmod": Int4Value(-1), "attstattarget": Int4Value(-1), "attcacheoff": Int4Value(-1),
				"attislocal": BoolValue(true), "attidentity": charValue(""), "attgenerated": charValue(""),
				"attcompression": charValue(""), "attstorage": charValue(storage(c.Type)), "attalign": charValue(alignment(c.Type)),
				"attbyval": BoolValue(byValue(c.Type)), "attcollation": OIDValue(collation(c.Type)),
				"attnotnull": BoolValue(obj.oid == oidTable && i == keyColumn),
			}
			if generated(&obj, i) {
				row["attgenerated"] = charValue("s")
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// generated reports whether clients cannot give a column a value. No expression can say what they find in it, so it has
// no default: what is dumped is the other columns.
func generated(obj *object, column int) bool { return obj.oid == oidTable && column == lsnColumn }

// extensions has one row: the views of public are an extension's, so that a dump has kv and not them.
func extensions(s *Session) []Fields {
	_, version, _ := strings.Cut(s.settings.get("server_version"), "(Longship ")
	return []Fields{{
		"oid": OIDValue(oidExtension), "extname": NameValue("longship"), "extowner": OIDValue(oidOwner),
		"extnamespace": OIDValue(oidPublicSchema), "extversion": TextValue(strings.TrimSuffix(version, ")")),
	}}
}

// members are the views that the extension has.
func members(o *objects) []Fields {
	var rows []Fields
	for _, obj := range o.relations {
		if obj.kind == "v" && obj.schema == oidPublicSchema {
			rows = append(rows, Fields{
				"classid": OIDValue(oidClasses), "objid": OIDValue(obj.oid), "refclassid": OIDValue(oidExtensions),
				"refobjid": OIDValue(oidExtension), "deptype": charValue("e"),
			})
		}
	}
	return rows
}

// byValue reports whether PostgreSQL hands values of a type around by value.
func byValue(t Type) bool {
	size := typeInfos[t].size
	return size > 0 && size <= 8
}

func storage(t Type) string {
	if typeInfos[t].size > 0 {
		return "p"
	}
	return "x"
}

func alignment(t Type) string {
	switch typeInfos[t].size {
	case 1, 64:
		return "c"
	case 2:
		return "s"
	case 8, 16:
		return "d"
	}
	return "i"
}

func collation(t Type) uint32 {
	switch t {
	case Name:
		return oidCColl
	case Text, Varchar, TextArray, NodeTree:
		return oidDefaultColl
	}
	return 0
}

func types(*objects) []Fields {
	arrays := map[Type]Type{}
	for t, info := range typeInfos {
		if info.elem != 0 && info.typname[0] == '_' && t != ACLArray {
			arrays[info.elem] = t
		}
	}
	var rows []Fields
	for _, t := range slices.Sorted(maps.Keys(typeInfos)) {
		if t == indexKey {
			continue
		}
		info := typeInfos[t]
		functions := typeFunctions()[info.typname]
		kind := "b"
		if info.category == 'P' || info.category == 'X' {
			kind = "p"
		}
		rows = append(rows, Fields{
			"oid": OIDValue(uint32(t)), "typname": NameValue(info.typname), "typnamespace": OIDValue(oidCatalogSchema),
			"typowner": OIDValue(oidOwner), "typlen": Int4Value(int32(info.size)), "typbyval": BoolValue(byValue(t)),
			"typtype": charValue(kind), "typcategory": charValue(string(info.category)), "typisdefined": BoolValue(true),
			"typispreferred": BoolValue(t == Bool || t == Text || t == OID || t == Float8 || t == Timestamptz || t == Inet),
			"typdelim":       charValue(","), "typelem": OIDValue(uint32(info.elem)), "typarray": OIDValue(uint32(arrays[t])),
			"typalign": charValue(alignment(t)), "typstorage": charValue(storage(t)), "typtypmod": Int4Value(-1),
			"typcollation": OIDValue(collation(t)),
			"typinput":     functions[0].value(), "typoutput": functions[1].value(),
			"typreceive": functions[2].value(), "typsend": functions[3].value(),
		})
	}
	return rows
}

func namespaces(*objects) []Fields {
	var rows []Fields
	for _, oid := range slices.Sorted(maps.Keys(schemaNames)) {
		rows = append(rows, Fields{"oid": OIDValue(oid), "nspname": NameValue(schemaNames[oid]), "nspowner": OIDValue(oidOwner)})
	}
	return rows
}

func accessMethods(*objects) []Fields {
	return []Fields{
		{"oid": OIDValue(oidHeap), "amname": NameValue("heap"), "amhandler": Value{typ: Regproc, s: "heap_tableam_handler"}, "amtype": charValue("t")},
		{"oid": OIDValue(oidBtree), "amname": NameValue("btree"), "amhandler": Value{typ: Regproc, s: "bthandler"}, "amtype": charValue("i")},
	}
}

func collations(*objects) []Fields {
	collation := func(oid uint32, name, provider string, locale Value) Fields {
		return Fields{
			"oid": OIDValue(oid), "collname": NameValue(name), "collnamespace": OIDValue(oidCatalogSchema),
			"collowner": OIDValue(oidOwner), "collprovider": charValue(provider), "collisdeterministic": BoolValue(true),
			"collencoding": Int4Value(-1), "collcollate": locale, "collctype": locale,
		}
	}
	return []Fields{collation(oidDefaultColl, "default", "d", Null), collation(oidCColl, "C", "c", TextValue("C"))}
}

func tablespaces(*objects) []Fields {
	return []Fields{
		{"oid": OIDValue(oidDefaultSpace), "spcname": NameValue("pg_default"), "spcowner": OIDValue(oidOwner)},
		{"oid": OIDValue(oidGlobalSpace), "spcname": NameValue("pg_global"), "spcowner": OIDValue(oidOwner)},
	}
}

func languages(*objects) []Fields {
	return []Fields{{"oid": OIDValue(oidInternal), "lanname": NameValue("internal"), "lanowner": OIDValue(oidOwner)}}
}

func indexes(*objects) []Fields {
	return []Fields{{
		"indexrelid": OIDValue(oidIndex), "indrelid": OIDValue(oidTable), "indnatts": Int4Value(1), "indnkeyatts": Int4Value(1),
		"indisunique": BoolValue(true), "indisprimary": BoolValue(true), "indimmediate": BoolValue(true),
		"indisvalid": BoolValue(true), "indisready": BoolValue(true), "indislive": BoolValue(true),
		"indkey": arrayValue(Int2Vector, []string{"1"}), "indcollation": arrayValue(OIDVector, []string{"100"}),
		"indclass": arrayValue(OIDVector, []string{"3126"}), "indoption": arrayValue(Int2Vector, []string{"0"}),
	}}
}

func constraints(*objects) []Fields {
	blank := charValue(" ")
	return []Fields{{
		"oid": OIDValue(oidConstraint), "conname": NameValue("kv_pkey"), "connamespace": OIDValue(oidPublicSchema),
		"contype": charValue("p"), "convalidated": BoolValue(true), "conrelid": OIDValue(oidTable), "conindid": OIDValue(oidIndex),
		"conislocal": BoolValue(true), "connoinherit": BoolValue(true), "conkey": arrayValue(Int2Array, []string{"1"}),
		"confupdtype": blank, "confdeltype": blank, "confmatchtype": blank,
	}}
}

func procedures(o *objects) []Fields {
	var rows []Fields
	for i, f := range o.functions {
		args := make([]string, len(f.Args))
		for k, t := range f.Args {
			args[k] = textOf(OIDValue(uint32(t)), nil)
		}
		rows = append(rows, Fields{
			"oid": OIDValue(firstFuncOID + uint32(i)), "proname": NameValue(f.Name), "pronamespace": OIDValue(oidCatalogSchema),
			"proowner": OIDValue(oidOwner), "prolang": OIDValue(oidInternal), "prokind": charValue("f"), "procost": Float8Value(1),
			"proisstrict": BoolValue(!f.NullOK), "proretset": BoolValue(f.set != nil), "provolatile": charValue("v"),
			"proparallel": charValue("u"), "pronargs": Int4Value(int32(len(f.Args))), "pronargdefaults": Int4Value(int32(len(f.Defaults))),
			"prorettype": OIDValue(uint32(f.Result)), "proargtypes": arrayValue(OIDVector, args), "prosrc": TextValue(f.Name),
		})
	}
	names := typeFunctionNames()
	for _, oid := range slices.Sorted(maps.Keys(names)) {
		rows = append(rows, Fields{
			"oid": OIDValue(oid), "proname": NameValue(names[oid]), "pronamespace": OIDValue(oidCatalogSchema), "proowner": OIDValue(oidOwner),
			"prolang": OIDValue(oidInternal), "prokind": charValue("f"), "procost": Float8Value(1), "proisstrict": BoolValue(true),
			"provolatile": charValue("i"), "proparallel": charValue("s"), "prosrc": TextValue(names[oid]),
		})
	}
	return rows
}

func databases(s *Session) []Fields {
	return []Fields{{
		"oid": OIDValue(oidDatabase), "datname": NameValue(s.id.Database), "datdba": OIDValue(oidOwner),
		"encoding": Int4Value(encodingUTF8), "datlocprovider": charValue("c"), "datallowconn": BoolValue(true),
		"datconnlimit": Int4Value(-1), "datfrozenxid": s.nextXID(), "datminmxid": XIDValue(firstMultiXact),
		"dattablespace": OIDValue(oidDefaultSpace), "datcollate": TextValue("C"), "datctype": TextValue("C"),
	}}
}

func roles(s *Session) []Fields {
	yes := BoolValue(true)
	return []Fields{{
		"rolname": NameValue(s.id.User), "rolsuper": yes, "rolinherit": yes, "rolcanlogin": yes, "rolreplication": yes,
		"rolconnlimit": Int4Value(-1), "rolpassword": TextValue("********"), "oid": OIDValue(oidOwner),
	}}
}

func authids(s *Session) []Fields {
	row := roles(s)[0]
	delete(row, "rolpassword")
	return []Fields{row}
}

func users(s *Session) []Fields {
	return []Fields{{
		"usename": NameValue(s.id.User), "usesysid": OIDValue(oidOwner), "usesuper": BoolValue(true),
		"userepl": BoolValue(true), "passwd": TextValue("********"),
	}}
}

func tables(s *Session) []Fields {
	var rows []Fields
	for _, obj := range s.catalog.described().relations {
		if obj.kind == "r" {
			rows = append(rows, Fields{
				"schemaname": NameValue(schemaNames[obj.schema]), "tablename": NameValue(obj.name),
				"tableowner": NameValue(s.id.User), "hasindexes": BoolValue(obj.oid == oidTable),
			})
		}
	}
	return rows
}

func views(s *Session) []Fields {
	var rows []Fields
	for _, obj := range s.catalog.described().relations {
		if obj.kind == "v" {
			rows = append(rows, Fields{
				"schemaname": NameValue(schemaNames[obj.schema]), "viewname": NameValue(obj.name), "viewowner": NameValue(s.id.User),
			})
		}
	}
	return rows
}

// indexDefinition is what CREATE INDEX would say of kv_pkey.
const indexDefinition = "CREATE UNIQUE INDEX kv_pkey ON public.kv USING btree (key)"

func indexDefinitions(*Session) []Fields {
	return []Fields{{
		"schemaname": NameValue("public"), "tablename": NameValue("kv"), "indexname": NameValue("kv_pkey"), "indexdef": TextValue(indexDefinition),
	}}
}

// infoSchemaColumns are the first columns of the views of information_schema that clients ask for.
var infoSchemaColumns = map[string][]Column{
	"schemata": {{"catalog_name", Name}, {"schema_name", Name}, {"schema_owner", Name}},
	"tables":   {{"table_catalog", Name}, {"table_schema", Name}, {"table_name", Name}, {"table_type", Varchar}, {"is_insertable_into", Varchar}},
	"columns": {
		{"table_catalog", Name}, {"table_schema", Name}, {"table_name", Name}, {"column_name", Name}, {"ordinal_position", Int4},
		{"column_default", Varchar}, {"is_nullable", Varchar}, {"data_type", Varchar}, {"character_maximum_length", Int4},
		{"numeric_precision", Int4}, {"numeric_precision_radix", Int4}, {"numeric_scale", Int4}, {"datetime_precision", Int4},
		{"udt_schema", Name}, {"udt_name", Name}, {"is_identity", Varchar}, {"identity_generation", Varchar}, {"identity_start", Varchar},
		{"identity_increment", Varchar}, {"is_generated", Varchar}, {"generation_expression", Varchar}, {"is_updatable", Varchar},
	},
	"table_constraints": {
		{"constraint_catalog", Name}, {"constraint_schema", Name}, {"constraint_name", Name}, {"table_catalog", Name}, {"table_schema", Name},
		{"table_name", Name}, {"constraint_type", Varchar}, {"is_deferrable", Varchar}, {"initially_deferred", Varchar}, {"enforced", Varchar},
		{"nulls_distinct", Varchar},
	},
	"key_column_usage": {
		{"constraint_catalog", Name}, {"constraint_schema", Name}, {"constraint_name", Name}, {"table_catalog", Name}, {"table_schema", Name},
		{"table_name", Name}, {"column_name", Name}, {"ordinal_position", Int4}, {"position_in_unique_constraint", Int4},
	},
	"constraint_column_usage": {
		{"table_catalog", Name}, {"table_schema", Name}, {"table_name", Name}, {"column_name", Name}, {"constraint_catalog", Name},
		{"constraint_schema", Name}, {"constraint_name", Name},
	},
	"referential_constraints": {
		{"constraint_catalog", Name}, {"constraint_schema", Name}, {"constraint_name", Name}, {"unique_constraint_catalog", Name},
		{"unique_constraint_schema", Name}, {"unique_constraint_name", Name}, {"match_option", Varchar}, {"update_rule", Varchar}, {"delete_rule", Varchar},
	},
}

// primaryKey is what the views on constraints say of the one that there is.
func primaryKey(s *Session, more Fields) []Fields {
	public, database := NameValue("public"), NameValue(s.id.Database)
	row := Fields{
		"constraint_catalog": database, "constraint_schema": public, "constraint_name": NameValue("kv_pkey"),
		"table_catalog": database, "table_schema": public, "table_name": NameValue("kv"),
	}
	maps.Copy(row, more)
	return []Fields{row}
}

func tableConstraints(s *Session) []Fields {
	return primaryKey(s, Fields{"constraint_type": TextValue("PRIMARY KEY"), "is_deferrable": yesNo(false), "initially_deferred": yesNo(false), "enforced": yesNo(true)})
}

func keyColumnUsage(s *Session) []Fields {
	return primaryKey(s, Fields{"column_name": NameValue("key"), "ordinal_position": Int4Value(1)})
}

func constraintColumnUsage(s *Session) []Fields {
	return primaryKey(s, Fields{"column_name": NameValue("key")})
}

func schemata(s *Session) []Fields {
	var rows []Fields
	for _, oid := range slices.Sorted(maps.Keys(schemaNames)) {
		rows = append(rows, Fields{
			"catalog_name": NameValue(s.id.Database), "schema_name": NameValue(schemaNames[oid]), "schema_owner": NameValue(s.id.User),
		})
	}
	return rows
}

func infoTables(s *Session) []Fields {
	var rows []Fields
	for _, obj := range s.catalog.described().relations {
		if kind := map[string]string{"r": "BASE TABLE", "v": "VIEW"}[obj.kind]; kind != "" {
			rows = append(rows, Fields{
				"table_catalog": NameValue(s.id.Database), "table_schema": NameValue(schemaNames[obj.schema]),
				"table_name": NameValue(obj.name), "table_type": TextValue(kind), "is_insertable_into": yesNo(obj.oid == oidTable),
			})
		}
	}
	return rows
}

func infoColumns(s *Session) []Fields {
	var rows []Fields
	for _, obj := range s.catalog.described().relations {
		if obj.kind == "i" {
			continue
		}
		for i, c := range obj.columns {
			dataType := c.Type.String()
			if c.Type.elem() != 0 {
				dataType = "ARRAY"
			}
			table, always := obj.oid == oidTable, "NEVER"
			if generated(&obj, i) {
				always = "ALWAYS"
			}
			rows = append(rows, Fields{
				"table_catalog": NameValue(s.id.Database), "table_schema": NameValue(schemaNames[obj.schema]), "table_name": NameValue(obj.name),
				"column_name": NameValue(c.Name), "ordinal_position": Int4Value(int32(i + 1)), "is_nullable": yesNo(!table || i != keyColumn),
				"data_type": TextValue(dataType), "udt_schema": NameValue("pg_catalog"), "udt_name": NameValue(typeInfos[c.Type].typname),
				"is_identity": yesNo(false), "is_generated": TextValue(always), "is_updatable": yesNo(table && i != lsnColumn),
			})
		}
	}
	return rows
}

func yesNo(b bool) Value {
	if b {
		return TextValue("YES")
	}
	return TextValue("NO")
}
