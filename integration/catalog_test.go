package integration

import (
	"strings"
	"testing"
)

// psqlDescribes are commands of psql that read the system catalogs, and what it prints, unaligned.
const psqlDescribes = `
\d kv
\d+ kv
\d kv_pkey
\dt
\l
\du
\dn
\di
\df pg_is_in_recovery
\d pg_stat_archiver
\d nope
`

const psqlDescribed = `
Table "public.kv"
Column|Type|Collation|Nullable|Default
key|text||not null|
value|text|||
lsn|pg_lsn|||generated always as () stored
Indexes:
    "kv_pkey" PRIMARY KEY, btree (key)
Table "public.kv"
Column|Type|Collation|Nullable|Default|Storage|Compression|Stats target|Description
key|text||not null||extended|||
value|text||||extended|||
lsn|pg_lsn|||generated always as () stored|plain|||
Indexes:
    "kv_pkey" PRIMARY KEY, btree (key)
Access method: heap
Index "public.kv_pkey"
Column|Type|Key?|Definition
key|text|yes|key
primary key, btree, for table "public.kv"
List of relations
Schema|Name|Type|Owner
public|kv|table|test
(1 row)
List of databases
Name|Owner|Encoding|Collate|Ctype|ICU Locale|Locale Provider|Access privileges
test|test|UTF8|C|C||libc|
(1 row)
List of roles
Role name|Attributes|Member of
test|Superuser, Replication|{}
List of schemas
Name|Owner
public|test
(1 row)
List of relations
Schema|Name|Type|Owner|Table
public|kv_pkey|index|test|kv
(1 row)
List of functions
Schema|Name|Result data type|Argument data types|Type
pg_catalog|pg_is_in_recovery|boolean||func
(1 row)
View "pg_catalog.pg_stat_archiver"
Column|Type|Collation|Nullable|Default
archived_count|bigint|||
last_archived_wal|text|||
last_archived_time|timestamp with time zone|||
failed_count|bigint|||
last_failed_wal|text|||
last_failed_time|timestamp with time zone|||
stats_reset|timestamp with time zone|||
Did not find any relation named "nope".
`

// psqlOtherDescribes are the other commands: whatever they find, it is no error.
const psqlOtherDescribes = `
\d
\dv
\d+ longship_members
\dS
\dt+
\di+
\dvS+
\l+
\dn+
\dn *
\du+
\df
\df+
\dfS
\df *.*
\d pg_class
\d information_schema.tables
\dp
\dT
\dTS
\dT+
\db+
\dx
\dconfig
\dconfig work_mem
\drds
\do
\dC
\dD
\dE
\dm
\dP
\dy
\des
\dew
\deu
\det
\dL+
\dF
\dFp
\dFd
\dFt
\sv pg_stat_wal
\dRp
\dRs
\dX
\dO
\dc
\da
\dA+
\dAc
\dAf
\dAo
\dAp
\ddp
\dl
\dd
`

// psql finds its way around as it does on PostgreSQL.
func TestPsqlDescribes(t *testing.T) {
	t.Parallel()
	n := newCluster(t, 1).primary()
	got := strings.ReplaceAll(psql(t, n, psqlDescribes, "-A"), "\n\n", "\n")
	if strings.TrimSpace(got) != strings.TrimSpace(psqlDescribed) {
		t.Errorf("psql printed\n%s\nwant\n%s", got, psqlDescribed)
	}
	if out := psql(t, n, psqlOtherDescribes); strings.Contains(out, "ERROR") {
		t.Errorf("psql printed\n%s", out)
	}
	if out := psql(t, n, `\conninfo`); !strings.Contains(out, `connected to database "test" as user "test"`) {
		t.Errorf(`\conninfo printed %s`, out)
	}
}
