# Statements that PostgreSQL 15 and Longship answer alike: rows, column names and types, command tags, and the
# SQLSTATE, message, position, detail and hint of errors. One a line; they run in order, each a query string of its own.
# After "code:" only the SQLSTATE and the position need be the same, after "state:" only the SQLSTATE, and after "columns:"
# the names and types of the columns.

# Literals and types
SELECT 1, 2147483647, 2147483648, 9223372036854775807, 9223372036854775808, 1.5, .5, 5., 1e3, 1.5e-3
SELECT -1, +2, - 3, -2147483648, - -4, 2 - -1
SELECT 'a', 'it''s', E'a\nb\tc\\', E'\x41\u00e9\101', $$a'b$$, $x$a$$b$x$, '', 'a' 'b'
SELECT true, false, null, TRUE AND NULL, FALSE AND NULL, TRUE OR NULL, NOT NULL
SELECT 1 AS a, 2 b, 3 AS "C d", 4 AS "select", 5 AS end
SELECT 1::text, '1'::int, '1'::int8, '1'::int2, '1.50'::numeric, 'x'::name, 't'::bool, '1.5'::float8, '16/B374D848'::pg_lsn, '10'::oid
SELECT CAST(1 AS text), CAST('2' AS integer), int '3', text 'x', bool 'yes', float8 '1', interval '1 day', numeric '2.50'
SELECT 1::bool, 0::bool, true::int, false::int, true::text, 1.5::int, 2.5::int, -1.5::int, 3.5::int8, 1.5::float8, 2.5::float8::int
SELECT 1::int2, 40000::int2
SELECT 3000000000::int
SELECT 'x'::int
SELECT ' 12 '::int, '-5'::int8, '+7'::int
SELECT '99999999999'::int
SELECT ''::int
SELECT 'maybe'::bool
SELECT 'on'::bool, 'OFF'::bool, 'T'::bool, 'yes'::bool, 'n'::bool, '1'::bool, '0'::bool, ' true '::bool
SELECT 'nope'::pg_lsn
SELECT '0/1'::pg_lsn < '0/2', '0/10'::pg_lsn - '0/1', '0/10'::pg_lsn + 16, '0/20'::pg_lsn - 16, 'FFFFFFFF/FFFFFFFF'::pg_lsn
SELECT '0/10'::pg_lsn - 17
SELECT pg_wal_lsn_diff('1/0', '0/FFFFFFFF'), pg_wal_lsn_diff('0/1', '0/2')
SELECT 1::nosuch
SELECT 1::pg_lsn
SELECT true::float8
SELECT 'a'::varchar, 'b'::character varying, '1'::integer, '2'::bigint, '3'::smallint, '4'::double precision, '5'::real, '6'::decimal
SELECT 1.0::float4, 1e10::float4, 123456789::float4, 0.1::float4, 1e-5::float4
SELECT 1e15::float8, 1e14::float8, 123456789012345678::float8, 0.0001::float8, 0.00001::float8, 'NaN'::float8, 'Infinity'::float8, '-inf'::float8
SELECT 1e400::float8
SELECT '1e400'::float8
SELECT 'abc'::float8

# Operators
SELECT 1 + 2, 3 - 5, 4 * 6, 7 / 2, 7 % 3, -7 / 2, -7 % 3, 7.0 / 2, 1.5 * 2, 2.5 % 2
SELECT 1 + 1.5, 1 + 2.5::float8, 1::int2 + 1::int2, 1::int8 + 1, 3000000000 + 1, 1.10 + 1.1
SELECT 2147483647 + 1
SELECT 9223372036854775807 + 1
SELECT 32767::int2 + 1::int2
SELECT 1 / 0
SELECT 1.0 / 0
SELECT 1 % 0
SELECT 1::float8 / 0
SELECT 1 / 3.0, 10 / 4.0, 2.0 / 3, 1.00 / 3, 100000.0 / 7
SELECT 'a' || 'b', 'a' || 1, 1 || 'b', 'a' || null, 'x' || true, 'v' || 1.5
SELECT 1 || 2
SELECT 1 = 1, 1 <> 2, 1 != 1, 1 < 2, 2 <= 2, 3 > 4, 3 >= 3, 'a' < 'b', 'B' < 'a', 1 = 1.0, 1 = 1::float8, true > false
SELECT 1 = 'x'
SELECT 1 = true
SELECT 'a' = 1
SELECT 1 = '1', '2' > 1, 'a' = 'a', null = null, 1 = null
SELECT 'a'::text = 'a'::name, 'b'::text > 'a'::name
SELECT 1 IS NULL, null IS NULL, 1 IS NOT NULL, null ISNULL, 1 NOTNULL, true IS TRUE, null IS TRUE, false IS NOT TRUE, null IS UNKNOWN, true IS NOT FALSE
SELECT 1 IS DISTINCT FROM 2, null IS DISTINCT FROM null, 1 IS NOT DISTINCT FROM null
SELECT 1 IS TRUE
SELECT 2 BETWEEN 1 AND 3, 2 NOT BETWEEN 1 AND 3, 'b' BETWEEN 'a' AND 'c', null BETWEEN 1 AND 2, 5 BETWEEN null AND 3, 2 BETWEEN 3 AND 1
SELECT 2 BETWEEN SYMMETRIC 3 AND 1
SELECT 1 IN (1, 2), 3 IN (1, 2), 3 NOT IN (1, 2), 3 IN (1, null), 1 IN (1, null), null IN (1), 'a' IN ('a', 'b')
SELECT 1 IN ('x')
SELECT 'abc' LIKE 'a%', 'abc' LIKE '_b_', 'abc' NOT LIKE 'b%', 'a%' LIKE 'a\%', 'ABC' ILIKE 'a%', null LIKE 'a', 'a' LIKE null, 'é' LIKE '_', '' LIKE '%', '' LIKE ''
SELECT 'a' LIKE 'a\'
SELECT 'a%c' LIKE 'a#%c' ESCAPE '#', 'abc' LIKE 'a#%c' ESCAPE '#', 'a\c' LIKE 'a\c' ESCAPE ''
SELECT 1 LIKE 'a'
SELECT 'abc' ~ '^a', 'abc' !~ 'b', 'ABC' ~* 'abc', 'abc' !~* 'B'
SELECT CASE WHEN true THEN 1 ELSE 2 END, CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'b' END, CASE WHEN false THEN 1 END, CASE null WHEN null THEN 1 ELSE 2 END
SELECT CASE WHEN 1 THEN 2 END
SELECT CASE 1 WHEN 'x' THEN 2 END
SELECT CASE WHEN true THEN 1 ELSE 'x' END
SELECT CASE WHEN true THEN 1 ELSE 1.5 END, CASE WHEN true THEN 'a' ELSE null END
SELECT COALESCE(null, 1, 2), COALESCE(null, null), NULLIF(1, 1), NULLIF(1, 2), NULLIF('a', 'b'), GREATEST(1, 3, 2), LEAST(1, null, 2), GREATEST(null, null)
SELECT COALESCE(1, 'x')
SELECT NULLIF(1)
SELECT COALESCE()
SELECT 1 + 2 * 3, (1 + 2) * 3, 2 * 3 + 1, 10 - 2 - 3, 8 / 2 / 2, NOT true OR true, true OR false AND false, 1 < 2 = true, - 2 + 1
SELECT 1 < 2 < 3
SELECT NOT 1
SELECT 1 AND 2
SELECT -'a'
SELECT - null
SELECT 'a' + 'b'
SELECT 'a' - 1
SELECT 1 @@ 2
SELECT 'x' COLLATE "C", 'x' COLLATE pg_catalog."default"
code: SELECT 'x' COLLATE nosuch

# Functions
SELECT length('naïve'), char_length('abc'), octet_length('é'), lower('AB'), upper('ab'), left('abc', 2), left('abc', -1), right('abc', 2), right('abc', -1)
SELECT substr('abcdef', 2), substr('abcdef', 2, 3), substr('abc', 0, 2), substr('abc', -1, 4), substring('abcdef' from 2 for 3), substring('abc' from 2), substring('abc' for 1)
SELECT substr('abc', 1, -1)
SELECT repeat('ab', 3), repeat('a', -1), replace('abcabc', 'b', 'x'), replace('abc', '', 'x'), strpos('abc', 'c'), position('b' in 'abc'), starts_with('abc', 'ab')
SELECT trim('  a '), ltrim('xxa', 'x'), rtrim('axx', 'x'), btrim('xax', 'x'), trim(both 'x' from 'xax'), trim(leading from ' a'), trim(trailing 'a' from 'ba')
SELECT concat('a', 1, null, true), concat_ws('-', 'a', null, 'b'), format('%s=%L', 'a', 'b''c'), quote_ident('a b'), quote_literal('a''b'), quote_nullable(null)
SELECT reverse('aéc'), lpad('7', 3, '0'), rpad('a', 3), lpad('abc', 2), rpad('x', 4, 'ab'), split_part('a,b,c', ',', 2), split_part('a,b', ',', -1), split_part('a', '', 1), md5('a')
SELECT abs(-1), abs(-1.5), abs(-2.5::float8), round(2.5), round(2.567, 2), round(2.5::float8), floor(1.7), ceil(1.2), ceiling(1.2), floor(-1.5), ceil(-1.5), trunc(-1.9), mod(7, 3), mod(7.5, 2), floor(1.5::float8), trunc(1.5::float8)
SELECT pg_size_pretty(1024::bigint), pg_size_pretty(10240::bigint), pg_size_pretty(10485760::bigint), pg_size_pretty(123456789012), pg_size_pretty(-20000::bigint)
SELECT pg_typeof(1), pg_typeof('a'), pg_typeof(now()), pg_typeof(null), pg_typeof(1.5)
SELECT now() = current_timestamp, now() = transaction_timestamp(), statement_timestamp() >= now(), clock_timestamp() > now()
SELECT pg_typeof(now() - now()), now() - interval '1 day' < now(), now()::text IS NOT NULL
SELECT extract(epoch from timestamptz '2026-11-21 04:03:03.25+00'), extract(year from timestamptz '2026-11-21 04:03:03+00'), extract(dow from timestamptz '2026-11-21 04:03:03+00'), date_part('hour', timestamptz '2026-11-21 04:03:03+00'), extract(second from timestamptz '2026-11-21 04:03:03.25+00')
SELECT extract(nope from now())
SELECT date_trunc('day', timestamptz '2026-11-21 04:03:03.25+00'), date_trunc('hour', timestamptz '2026-11-21 04:03:03.25+00')
SELECT timestamptz '2026-11-21 04:03:03+02', timestamptz '2026-11-21', '2026-11-21 10:00'::timestamptz + interval '1 month 2 days 3 hours', timestamptz 'epoch', to_timestamp(1.5)
SELECT 'nope'::timestamptz
code: SELECT '2026-13-01'::timestamptz
SELECT interval '1 day 2 hours', interval '90 minutes', interval '1 year 2 mons', '-1 day'::interval, interval '1.5 hours', interval '1 week' + interval '1 day', - interval '1 day', interval '1 day' * 2, interval '1 day' / 2
SELECT 'x'::interval
SELECT current_user = session_user, current_user = user, current_database() = current_catalog, current_schema, current_schema(), current_schemas(false)
SELECT current_setting('server_version_num')::int >= 150000, current_setting('nope', true), current_setting('search_path')
SELECT current_setting('nope')
SELECT set_config('application_name', 'x', false), current_setting('application_name')
SELECT nosuch(1)
SELECT length(1)
SELECT length()
SELECT pg_catalog.length('abc'), pg_catalog.now() IS NULL
SELECT pg_sleep(0)
SELECT pg_is_in_recovery(), version() LIKE 'PostgreSQL 15%', pg_backend_pid() > 0
SELECT random() < 1
SELECT array_length(ARRAY[1,2], 1), ARRAY['a','b'], ARRAY[1,2] || ARRAY[3], cardinality(ARRAY[1]), array_to_string(ARRAY['a', null, 'b'], ',', '*'), '{1,2}'::int[], (ARRAY[1,2])[2], ARRAY[1,2] = ARRAY[1,2]
SELECT 1 = ANY (ARRAY[1,2]), 3 = ANY ('{1,2}'), 1 <> ALL (ARRAY[2,3]), 'a' = ANY (ARRAY['a'])
SELECT 1 = ANY (1)
SELECT unnest(ARRAY['a','b']), generate_series(1, 2)
SELECT * FROM unnest(ARRAY['a','b','c'], '{x}'::text[]) WITH ORDINALITY AS t(k, v, o) ORDER BY o DESC
SELECT unnest FROM unnest(ARRAY['a'], ARRAY[1])
SELECT n, i FROM generate_series(3, 4) WITH ORDINALITY AS g(n, i) WHERE i > 1
INSERT INTO kv (key, value) SELECT * FROM unnest('{un1,un2}'::text[], ARRAY['1', NULL]) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value RETURNING key, value
SELECT array_position(ARRAY['a','b',NULL], NULL), array_position(ARRAY['a','b','a'], 'a', 2), array_position('{}'::text[], 'a')
SELECT array_position(ARRAY['a'], 'a', NULL)
SELECT * FROM generate_series(1, 3)
SELECT n, n * 2 AS d FROM generate_series(1, 5) AS g(n) WHERE n % 2 = 1 ORDER BY n DESC
SELECT (SELECT 1), EXISTS (SELECT 1 WHERE false), ARRAY(SELECT generate_series(1, 3)), 2 IN (SELECT generate_series(1, 3))
SELECT * FROM (SELECT 1 AS a, 'x' AS b) AS t JOIN (SELECT 1 AS c) AS u ON t.a = u.c
SELECT a.n, b.n FROM generate_series(1, 2) a(n) LEFT JOIN generate_series(2, 3) b(n) ON a.n = b.n ORDER BY 1
SELECT DISTINCT n / 2 FROM generate_series(0, 3) n ORDER BY 1
SELECT 1 UNION SELECT 2 UNION ALL SELECT 2 ORDER BY 1
state: SELECT 'kv'::regclass, 'kv'::regclass::oid = 16384, 'text'::regtype, 'nope'::regclass
SELECT relname, relkind FROM pg_class WHERE relname = 'kv'
SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = 'kv'::regclass AND attnum > 0 ORDER BY attnum

# INSERT
INSERT INTO kv VALUES ('a', '1')
INSERT INTO kv VALUES ('b', '2'), ('c', NULL), ('d', '4')
INSERT INTO kv (key, value) VALUES ('e', '5') RETURNING key, value
INSERT INTO kv (value, key) VALUES ('6', 'f') RETURNING kv.key, value, length(value) AS n
INSERT INTO kv (key) VALUES ('g') RETURNING key, value IS NULL
INSERT INTO kv AS t (key, value) VALUES ('h', 'x') RETURNING t.key, kv.value
INSERT INTO kv AS t (key, value) VALUES ('h2', 'x') RETURNING t.key, t.value
INSERT INTO kv VALUES ('i', DEFAULT) RETURNING value
INSERT INTO kv VALUES ('a', 'again')
INSERT INTO kv VALUES ('z1', '1'), ('z1', '2')
INSERT INTO kv VALUES ('a', 'x') ON CONFLICT DO NOTHING
INSERT INTO kv VALUES ('a', 'x'), ('j', 'y') ON CONFLICT (key) DO NOTHING RETURNING key
INSERT INTO kv VALUES ('a', 'x') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value RETURNING key, value
INSERT INTO kv VALUES ('a', 'y') ON CONFLICT (key) DO UPDATE SET value = kv.value || '+' || excluded.value RETURNING value
INSERT INTO kv AS t VALUES ('a', 'z') ON CONFLICT (key) DO UPDATE SET value = t.value || '.' WHERE t.value LIKE 'x%' RETURNING value
INSERT INTO kv VALUES ('a', 'z') ON CONFLICT (key) DO UPDATE SET value = 'n' WHERE kv.value = 'none' RETURNING value
INSERT INTO kv VALUES ('a', 'z') ON CONFLICT ON CONSTRAINT kv_pkey DO UPDATE SET value = upper(EXCLUDED.value) RETURNING value
INSERT INTO kv VALUES ('q', '1'), ('q', '2') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value
INSERT INTO kv VALUES ('a', 'z') ON CONFLICT ON CONSTRAINT nope DO NOTHING
INSERT INTO kv VALUES ('a', 'z') ON CONFLICT (value) DO NOTHING
INSERT INTO kv VALUES ('a', 'z') ON CONFLICT (nope) DO NOTHING
INSERT INTO kv VALUES ('a', 'z') ON CONFLICT DO UPDATE SET value = 'x'
INSERT INTO kv VALUES ('a', 'z') ON CONFLICT (key) DO UPDATE SET nope = 'x'
INSERT INTO kv VALUES ('a', 'z') ON CONFLICT (key) DO UPDATE SET value = value
INSERT INTO kv VALUES ('a', 'z') ON CONFLICT (key) DO
INSERT INTO kv VALUES (NULL, 'x')
INSERT INTO kv (value) VALUES ('x')
INSERT INTO kv VALUES (1, 2) RETURNING key, value
INSERT INTO kv VALUES (true, 1.5) RETURNING key, value
INSERT INTO kv VALUES ('a', 'b', '0/1', 'd')
INSERT INTO kv (key, value) VALUES ('a')
INSERT INTO kv (key) VALUES ('a', 'b')
INSERT INTO kv (key, key) VALUES ('a', 'b')
INSERT INTO kv (nope) VALUES ('a')
INSERT INTO kv VALUES ('k1', '1'), ('k2')
code: INSERT INTO kv VALUES (key, 'x')
INSERT INTO kv VALUES (nope)
INSERT INTO kv VALUES ()
INSERT INTO kv VALUES
INSERT INTO kv
INSERT kv VALUES ('a')
INSERT INTO nope VALUES (1)
INSERT INTO kv DEFAULT VALUES
INSERT INTO kv VALUES (count(*), 'x')
INSERT INTO kv (key, value) VALUES ('r', '1') RETURNING nope
INSERT INTO kv (key, value) VALUES ('r', '1') RETURNING count(*)
INSERT INTO kv (key, value) VALUES (upper('r') || '1', (1 + 2)::text) RETURNING key AS k, value AS "V"

# SELECT
SELECT key, value FROM kv ORDER BY key
SELECT key FROM kv WHERE key = 'a'
SELECT key FROM kv WHERE key = 'nope'
SELECT key, value FROM kv WHERE key IN ('a', 'c', 'nope', 'a') ORDER BY key
SELECT key FROM kv WHERE key = ANY ('{a,b}') ORDER BY key
SELECT key FROM kv WHERE key = ANY (ARRAY['b', 'c', null]) ORDER BY key
SELECT key FROM kv WHERE key > 'c' AND key < 'g' ORDER BY key
SELECT key FROM kv WHERE key BETWEEN 'b' AND 'd' ORDER BY key
SELECT key FROM kv WHERE key LIKE 'h%' ORDER BY key
SELECT key FROM kv WHERE value IS NULL ORDER BY key
SELECT key FROM kv WHERE value IS NOT NULL AND NOT key = 'a' OR key = 'c' ORDER BY key
SELECT key FROM kv WHERE (key = 'a' OR key = 'b') AND value > '1' ORDER BY key
SELECT key FROM kv WHERE length(value) > 1 ORDER BY key
SELECT key FROM kv WHERE false
SELECT key FROM kv WHERE null
SELECT key FROM kv WHERE key
SELECT key FROM kv WHERE 1
SELECT key FROM kv WHERE count(*) > 1
SELECT kv.key, kv.value FROM kv WHERE kv.key = 'b'
SELECT t.key FROM kv t WHERE t.key = 'b'
SELECT t.key FROM kv AS t WHERE kv.key = 'b'
SELECT kv.key FROM kv AS t
SELECT public.kv.key FROM public.kv WHERE public.kv.key = 'b'
SELECT key FROM other.kv
SELECT t.*, 1 AS one FROM kv t WHERE key = 'nope'
SELECT * , key FROM kv WHERE key = 'nope'
SELECT nope.* FROM kv
SELECT *
SELECT * FROM nope
SELECT nope FROM kv
SELECT kv.nope FROM kv
SELECT nope.key FROM kv
SELECT key
SELECT key AS k FROM kv WHERE k = 'a'
SELECT key AS k FROM kv ORDER BY k LIMIT 2
SELECT key, length(key) FROM kv ORDER BY 2 DESC, 1 LIMIT 3
SELECT key FROM kv ORDER BY value NULLS FIRST, key LIMIT 4
SELECT key FROM kv ORDER BY value DESC NULLS LAST, key LIMIT 4
SELECT key FROM kv ORDER BY value DESC, key DESC LIMIT 3
SELECT key FROM kv ORDER BY length(key) DESC, key OFFSET 1 LIMIT 2
SELECT key FROM kv ORDER BY 3
SELECT key FROM kv ORDER BY 0
SELECT key FROM kv ORDER BY 'x'
SELECT key FROM kv ORDER BY nope
SELECT key FROM kv ORDER BY key LIMIT 0
SELECT key FROM kv ORDER BY key LIMIT ALL OFFSET 12
SELECT key FROM kv ORDER BY key LIMIT NULL OFFSET NULL ROWS
SELECT key FROM kv ORDER BY key LIMIT 1 + 1 OFFSET 2 - 1
SELECT key FROM kv ORDER BY key LIMIT '2'
SELECT key FROM kv LIMIT -1
SELECT key FROM kv OFFSET -1
SELECT key FROM kv LIMIT 'x'
SELECT key FROM kv LIMIT true
SELECT key FROM kv ORDER BY key FETCH FIRST 2 ROWS ONLY
SELECT key FROM kv ORDER BY key OFFSET 1 ROW FETCH NEXT ROW ONLY
SELECT count(*), count(value), min(key), max(key), sum(length(key)) FROM kv
SELECT count(*) FROM kv WHERE key = 'nope'
SELECT min(value), max(value), sum(1) FROM kv WHERE false
SELECT count(*) + 1 AS n, upper(min(key)) FROM kv
SELECT count(*), key FROM kv
SELECT count(count(*)) FROM kv
SELECT count() FROM kv
SELECT sum(key) FROM kv
SELECT avg(length(key)) > 1 FROM kv
SELECT count(*) LIMIT 0
SELECT FROM kv LIMIT 1
SELECT
SELECT 1 WHERE true
SELECT 1 WHERE false
SELECT 1 ORDER BY 1
SELECT 1 LIMIT 1;
SELECT ,
SELECT 1 2
SELECT 1 FROM
SELECT key FROM kv WHERE
SELECT key FROM kv ORDER
SELECT key FROM kv ORDER BY
SELECT key FROM kv LIMIT
SELECT key kv
SELECT (1
SELECT 1)
SELECT 'a
SELECT "a
SELECT $1
SELECT $0
SELECT /* c /* d */ */ 1 -- e
SELECT /* c
SELECT 1 # 
SELECT 1x
SELECT 1.5.2
SELECT 0x1F
SELECT "no such column"
SELECT "" 
SELECT 'é', nope

# UPDATE and DELETE
UPDATE kv SET value = 'u' WHERE key = 'a'
UPDATE kv SET value = 'u' WHERE key = 'nope'
UPDATE kv SET value = value || '!' WHERE key >= 'b' AND key < 'd' RETURNING key, value
UPDATE kv SET value = NULL WHERE key = 'a' RETURNING key, value
UPDATE kv SET value = DEFAULT WHERE key = 'a' RETURNING value
UPDATE kv SET value = 5 WHERE key = 'a'
UPDATE kv SET value = true WHERE key = 'a'
UPDATE kv AS t SET value = t.key || '?' WHERE t.key = 'a' RETURNING t.value
UPDATE kv SET value = 'x' WHERE t.key = 'a'
UPDATE kv SET nope = 'x'
UPDATE kv SET value = nope
UPDATE kv SET value = 'a', value = 'b'
UPDATE kv SET value = count(*)
UPDATE kv SET value
UPDATE kv SET value =
UPDATE kv SET
UPDATE kv
UPDATE nope SET a = 1
UPDATE kv SET kv.value = 'x'
UPDATE kv SET value = 'x' WHERE 1
UPDATE kv SET value = 'x' WHERE key = 'a' RETURNING nope
code: UPDATE pg_stat_replication SET pid = 1
DELETE FROM kv WHERE key = 'nope'
DELETE FROM kv WHERE key = 'j' RETURNING key, value
DELETE FROM kv AS t WHERE t.key IN ('i', 'h2') RETURNING t.key
DELETE FROM kv WHERE nope
DELETE FROM kv WHERE 1
DELETE FROM nope
DELETE kv
DELETE FROM kv WHERE
DELETE FROM kv RETURNING count(*)
DELETE FROM kv t WHERE kv.key = 'a'

# Transactions
BEGIN; SELECT 1; COMMIT
BEGIN
SELECT nope
SELECT 1
COMMIT
BEGIN; INSERT INTO kv VALUES ('t', '1'); SELECT value FROM kv WHERE key = 't'; ROLLBACK
SELECT value FROM kv WHERE key = 't'
COMMIT
ROLLBACK
END
ABORT
BEGIN; BEGIN; COMMIT
START TRANSACTION READ ONLY
INSERT INTO kv VALUES ('t', '1')
ROLLBACK
BEGIN READ ONLY; UPDATE kv SET value = 'x'; COMMIT
ROLLBACK
BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE; SHOW transaction_isolation; SHOW transaction_read_only; COMMIT
BEGIN WORK; COMMIT WORK
state: BEGIN READ; COMMIT
BEGIN ISOLATION LEVEL NOPE
BEGIN READ ONLY,
BEGIN; SET TRANSACTION READ ONLY; SHOW transaction_read_only; COMMIT
SET TRANSACTION READ ONLY
SET TRANSACTION
BEGIN; COMMIT AND CHAIN; SHOW transaction_read_only; ROLLBACK AND NO CHAIN
COMMIT AND CHAIN
INSERT INTO kv VALUES ('s1', '1'); INSERT INTO kv VALUES ('s1', '2')
SELECT count(*) FROM kv WHERE key = 's1'
INSERT INTO kv VALUES ('s2', '1'); SELECT 1 / 0
SELECT count(*) FROM kv WHERE key = 's2'
SELECT 1; SELECT nope; SELECT 2
;
SELECT 1;; SELECT 2;

# Settings
SHOW server_encoding
SHOW client_encoding
SHOW standard_conforming_strings
SHOW integer_datetimes
SHOW nope
SHOW
SET nope = 1
SET application_name = 'me'; SHOW application_name
SET application_name TO DEFAULT; SHOW application_name
SET application_name = a, b
SET statement_timeout = '30s'; SHOW statement_timeout
SET statement_timeout = '1min'; SHOW statement_timeout
SET statement_timeout = 90000; SHOW statement_timeout
SET statement_timeout = '1.5s'; SHOW statement_timeout
SET statement_timeout = 1500; SHOW statement_timeout
SET statement_timeout = '2 h'; SHOW statement_timeout
SET statement_timeout = '1d'; SHOW statement_timeout
SET statement_timeout = '100us'; SHOW statement_timeout
SET statement_timeout = -1
SET statement_timeout = '30 sec'
SET statement_timeout = '10kB'
SET statement_timeout = 'x'
SET statement_timeout = ''
code: SET statement_timeout = 99999999999
RESET statement_timeout; SHOW statement_timeout
SELECT name, setting, unit, vartype, context, min_val, max_val, boot_val, reset_val FROM pg_settings WHERE name = 'statement_timeout'
SET synchronous_commit = on; SHOW synchronous_commit
SET synchronous_commit = 'off'; SHOW synchronous_commit
SET synchronous_commit = true; SHOW synchronous_commit
SET synchronous_commit = LOCAL; SHOW synchronous_commit
SET synchronous_commit = nope
RESET synchronous_commit
SET SESSION application_name = 's'; SHOW application_name
SET LOCAL application_name = 'l'
BEGIN; SET LOCAL application_name = 'l'; SHOW application_name; COMMIT; SHOW application_name
BEGIN; SET application_name = 'r'; ROLLBACK; SHOW application_name
SET TIME ZONE 'Europe/Helsinki'; SHOW timezone; SELECT timestamptz '2026-01-01 00:00:00+00', timestamptz '2026-07-01 00:00:00+00'
SET TIME ZONE 'nope'
SET TIME ZONE LOCAL
SET timezone = 'UTC'; SELECT timestamptz '2026-01-01 00:00:00+00'
SET DateStyle = 'ISO, MDY'; SHOW DateStyle
SET NAMES 'UTF8'; SHOW client_encoding
SET client_encoding = 'utf8'
code: SET client_encoding = 'nope'
SET search_path = public; SHOW search_path
SET extra_float_digits = 3; SHOW extra_float_digits
SET extra_float_digits = 4
SET default_transaction_isolation = 'serializable'; SHOW default_transaction_isolation
SET default_transaction_isolation = 'nope'
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE
code: SET fsync = off
SET wal_buffers = 1
SET max_connections = 5
SET server_version = '1'
SET wal_segment_size = 1
SET my.setting = 'x'; SHOW my.setting
SET my.setting = 1, 2
SHOW my.nope
RESET ALL
RESET nope
RESET
SET
SET application_name
SET application_name =
SET x.y TO 'a'; RESET x.y
ALTER SYSTEM SET nope = 1
ALTER SYSTEM SET statement_timeout = 'x'
ALTER SYSTEM SET statement_timeout = '10kB'
ALTER SYSTEM SET wal_segment_size = 1
ALTER SYSTEM SET server_version = '1'
ALTER SYSTEM SET
ALTER SYSTEM RESET nope
ALTER SYSTEM
BEGIN; ALTER SYSTEM SET statement_timeout = 1; COMMIT
ROLLBACK
SELECT 1; ALTER SYSTEM SET statement_timeout = 1

# Other statements
CHECKPOINT
DISCARD ALL
DISCARD PLANS
DISCARD TEMP
DISCARD
BEGIN; DISCARD ALL; COMMIT
ROLLBACK
DEALLOCATE ALL
DEALLOCATE nope
DEALLOCATE PREPARE nope
SELEC 1
nope
"select" 1
1
'x'
state: (
EXPLAIN
ALTER
VALUES (1, 'a'), (2, 'b') ORDER BY 1 DESC LIMIT 1
SELECT * FROM (VALUES ('a', 1), (NULL, 2.5)) AS v(k, n) WHERE n > 1
SELECT * FROM (VALUES (1, 2), (3)) v
VALUES
VALUES (1,)
SELECT n, row_number() OVER (PARTITION BY n % 2 ORDER BY n DESC) FROM generate_series(1, 5) n ORDER BY n
SELECT row_number() OVER () AS r, n FROM generate_series(3, 1, -1) n
SELECT n FROM generate_series(1, 2) n WHERE row_number() OVER () = 1
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS x(i, v) JOIN (VALUES (2, 'c'), (3, 'd')) AS y(i, w) USING (i)
SELECT i, x.i, y.i, v FROM (VALUES (1, 'a'), (2, 'b')) AS x(i, v) LEFT JOIN (VALUES (2, 'c')) AS y(i, w) USING (i) ORDER BY x.i
SELECT 1 FROM (VALUES (1)) AS x(i) JOIN (VALUES (2)) AS y(j) USING (i)
SELECT 5 & 3, 5 | 3, 5::int2 & 1::int2, 1::int8 | 2
SELECT 1.5 & 1

# Infinite timestamps, and years before Christ or of five digits and more.
SET timezone = 'UTC'
SELECT 'infinity'::timestamptz, '-infinity'::timestamptz, ' INFINITY '::timestamptz::text, timestamptz '0044-03-15 12:00:00 BC', timestamptz '4714-11-24 00:00:00+00 BC', timestamptz '294276-12-31 23:59:59.999999+00'
SELECT '0001-01-01 bc'::timestamptz, '0001-01-01 AD'::timestamptz, '10000-01-01 00:00:00+00'::timestamptz, timestamptz '0005-02-28 23:00:00-05 BC', timestamptz '2020-01-01T00:00:00Z BC', '0400-02-29 BC'::timestamptz IS NULL
SELECT timestamptz '2024-02-30 BC'
SELECT '4714-11-23 23:59:59+00 BC'::timestamptz
SELECT '294277-01-01'::timestamptz
SELECT '0000-01-01'::timestamptz
SELECT '+infinity'::timestamptz
SELECT 'infinity'::timestamptz - now()
SELECT now() - '-infinity'::timestamptz
SELECT 'infinity'::timestamptz + interval '1 day', '-infinity'::timestamptz - interval '1 year', interval '1 day' + timestamptz 'infinity'
SELECT 'infinity'::timestamptz > now(), '-infinity'::timestamptz < '0044-03-15 BC', 'infinity'::timestamptz = 'infinity', greatest('infinity'::timestamptz, now()), isfinite('infinity'::timestamptz), isfinite(now())
SELECT date_part('epoch', 'infinity'::timestamptz), date_part('year', '-infinity'::timestamptz), date_part('hour', 'infinity'::timestamptz), extract(month from 'infinity'::timestamptz), extract(year from '0044-03-15 BC'::timestamptz), extract(epoch from '0044-03-15 BC'::timestamptz)
SELECT date_part('nope', 'infinity'::timestamptz)
SELECT date_trunc('day', 'infinity'::timestamptz), date_trunc('year', '0044-03-15 12:00:00 BC'::timestamptz), date_trunc('hour', timestamptz '0001-01-01 00:30:00+00')
SELECT timestamptz '4714-11-24 00:00:00+00 BC' - interval '1 day'
SELECT timestamptz '294276-12-31 23:59:59.999999+00' + interval '1 microsecond'
SELECT timestamptz '0044-03-15 BC' + interval '100 years', timestamptz '0044-03-15 BC' + interval '43 years 11 months', timestamptz '2020-01-01' - timestamptz '0044-03-15 BC'
SELECT to_timestamp('infinity'), to_timestamp('-infinity'), to_timestamp(-1e11)
code: SELECT to_timestamp(-1e13)
SELECT to_timestamp('nan')
SET timezone = 'Europe/Berlin'
SELECT timestamptz '0044-03-15 12:00:00 BC', timestamptz '0044-03-15 12:00:00+00 BC', timestamptz '0001-12-31 23:30:00+00 BC'
SET timezone = 'UTC'

# OPERATOR(…) with ANY and ALL, as vacuumdb writes it.
SELECT 1 OPERATOR(pg_catalog.=) ANY (array[1, 2]), 'r' OPERATOR(pg_catalog.<>) ALL (array['r', 'm']), 2 OPERATOR(pg_catalog.>) ANY (SELECT 1) AND true
state: SELECT 1 OPERATOR(pg_catalog.=) ANY (array['x'])

# set_config resets what it sets to NULL.
SELECT set_config(NULL, 'x', false)
SELECT set_config('statement_timeout', '5s', false), set_config('statement_timeout', NULL, false), set_config('statement_timeout', '0', NULL)

# Types that drivers send for their own, with which nothing is kept: values are text
SELECT date '2020-02-29', '2020-01-02'::date + 30, date '2020-01-02' - date '2019-12-31', 5 + date '2020-01-01', date '2020-01-01' - 1, 'infinity'::date
SELECT date '0044-03-15 BC', '2020-01-02 03:04:05+05'::date, date '2020-01-02' + interval '1 day 02:00', interval '1 month' + date '2020-01-31'
code: SELECT '2020-13-01'::date
SELECT 'nope'::date
SELECT timestamp '2020-01-02 03:04:05.678', timestamp without time zone '2020-01-02', '2020-01-02 03:04:05+05'::timestamp, 'infinity'::timestamp, '-infinity'::timestamp::date
SELECT timestamp '2020-01-02' - timestamp '2020-01-01 12:00', timestamp '2020-01-31' + interval '1 month', timestamp '2020-01-02' - interval '1 hour'
SELECT 'x'::timestamp
SELECT timestamp '2020-01-02' > date '2020-01-01', date '2020-01-02' = timestamptz '2020-01-02 00:00:00+00', timestamp '2020-01-02' < '2020-01-03', date '2020-01-01' IN ('2020-01-01', '2020-01-02')
SELECT time '03:04:05.5', time without time zone '24:00', '3:4'::time, time '03:04' < time '04:00'
SELECT '25:00'::time
SELECT 'x'::time
SELECT timestamptz '2020-01-02 03:04:05+00' AT TIME ZONE 'Europe/Helsinki', timestamp '2020-01-02 03:04:05' AT TIME ZONE 'America/New_York', timestamp '2020-07-02 12:00' AT TIME ZONE 'UTC' AT TIME ZONE 'Asia/Tokyo'
SELECT now() AT TIME ZONE 'nope'
SELECT current_date = now()::date, localtimestamp = now()::timestamp, localtime = now()::time, pg_typeof(current_date), pg_typeof(localtimestamp)
SELECT '2020-01-02 03:04:05+00'::timestamptz::date, '2020-01-02 03:04:05+00'::timestamptz::timestamp, '2020-01-02'::date::timestamptz, timestamp '2020-01-02 03:04:05'::time, timestamp '2020-01-02 03:04:05'::date
SELECT extract(epoch from date '2020-01-02'), extract(year from date '2020-01-02'), extract(dow from timestamp '2020-01-02 03:04:05'), date_part('epoch', timestamp '2020-01-02 03:04:05.25'), extract(second from timestamp '2020-01-02 03:04:05.25')
SELECT date_trunc('month', timestamp '2020-02-15 03:04:05'), date_trunc('day', date '2020-02-15'), date_trunc('hour', timestamp 'infinity'), isfinite(timestamp 'infinity'), isfinite(date '2020-01-01')
SELECT age(timestamptz '2020-03-01 00:00+00', timestamptz '2020-01-31 12:00+00'), age(timestamptz '2020-01-31 12:00+00', timestamptz '2020-03-01 00:00+00'), age(timestamptz '2020-03-01+00', timestamptz '2019-03-01+00')
SELECT '\x6100ff'::bytea, 'a\\b\001'::bytea, '\x61'::bytea < '\x62'::bytea
SELECT '\x6'::bytea
SELECT '\x6g'::bytea
SELECT 'a\b'::bytea
SELECT 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid, '{a0eebc999c0b4ef8bb6d6bb9bd380a11}'::uuid, uuid 'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11' > '00000000-0000-0000-0000-000000000005'
SELECT 'a0eebc99'::uuid
SELECT '{"b":1.50,  "a":null}'::json, '{"bb":1.50,  "a":[true,"x\u00e9\n"], "a":1e2}'::jsonb, json '1'::jsonb::text
code: SELECT '{'::json
SELECT '"\u0000"'::jsonb
code: SELECT '{"a":1}'::json = '{}'::json
SELECT '18446744073709551615'::xid8, '5'::xid8 < '6'::xid8, '5'::xid8::xid
INSERT INTO kv VALUES ('types', date '2020-01-02') RETURNING value
UPDATE kv SET value = uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' WHERE key = 'types' RETURNING value
UPDATE kv SET value = timestamp '2020-01-02 03:04' WHERE key = 'types' RETURNING value
UPDATE kv SET value = '\x61'::bytea WHERE key = 'types' RETURNING value
DELETE FROM kv WHERE key = 'types'
SELECT ARRAY[date '2020-01-02', null], '{1.50,2}'::numeric[], '{0.1}'::float8[], ARRAY['0/10'::pg_lsn], ARRAY[interval '1 day'], '{2020-01-02 03:04:05}'::timestamp[], ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid]
SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE; SHOW timezone; SELECT timestamptz '2020-01-01 00:00:00+00'
SET TIME ZONE INTERVAL '1 day'
RESET timezone
SET timezone = 'UTC'

# Settings for what is not here
SET work_mem = '64MB'; SHOW work_mem
SET work_mem = '1kB'
SET jit = off; SHOW jit
SET enable_seqscan = nope
SET LOCAL row_security = off
SET plan_cache_mode = force_custom_plan; SHOW plan_cache_mode
SET random_page_cost = 1.1; SHOW random_page_cost; RESET random_page_cost; SHOW random_page_cost
SELECT name, setting, unit, vartype, context, min_val, max_val, enumvals, boot_val FROM pg_settings WHERE name IN ('work_mem', 'jit', 'xmloption', 'vacuum_cost_delay') ORDER BY 1
SET client_encoding = '''utf-8'''; SHOW client_encoding
SHOW max_prepared_transactions
SHOW lc_collate

# GROUP BY, HAVING, and what aggregates take
INSERT INTO kv VALUES ('g1', 'x'), ('g2', 'x'), ('g3', 'y'), ('g4', NULL), ('g5', 'y'), ('g6', 'x')
SELECT value, count(*), min(key), max(key) FROM kv WHERE key LIKE 'g_' GROUP BY value ORDER BY value
SELECT value, count(*) FROM kv WHERE key LIKE 'g_' GROUP BY value ORDER BY 2 DESC, 1 NULLS FIRST LIMIT 2
SELECT value AS v, count(*) AS n FROM kv WHERE key LIKE 'g_' GROUP BY v HAVING count(*) > 1 ORDER BY n DESC
SELECT upper(value) || '!', sum(length(key)) FROM kv WHERE key LIKE 'g_' GROUP BY upper(value) ORDER BY 1
SELECT left(key, 1), count(*) FROM kv WHERE key LIKE 'g_' GROUP BY 1
SELECT key, value, length(value) FROM kv WHERE key LIKE 'g_' GROUP BY key HAVING value = 'x' ORDER BY key DESC
SELECT * FROM (SELECT n % 2 AS m, count(*) AS c, avg(n) AS a FROM generate_series(1, 5) n GROUP BY n % 2) t ORDER BY m
SELECT count(*) FROM kv WHERE key = 'none' GROUP BY value
SELECT count(*) FROM kv WHERE key = 'none' HAVING count(*) = 0
SELECT 1 FROM kv WHERE key = 'none' HAVING true
SELECT 1 FROM generate_series(1, 3) HAVING false
SELECT key FROM kv GROUP BY value
SELECT key, count(*) FROM kv GROUP BY value
SELECT value FROM kv GROUP BY value HAVING key = 'a'
SELECT value FROM kv GROUP BY value ORDER BY key
SELECT value FROM kv GROUP BY count(*)
SELECT value FROM kv GROUP BY 2
SELECT value FROM kv GROUP BY 'x'
SELECT value FROM kv GROUP BY nope
SELECT value FROM kv HAVING count(*)
SELECT * FROM kv GROUP BY value
SELECT count(DISTINCT value), count(value), string_agg(DISTINCT value, ','), sum(DISTINCT length(key)) FROM kv WHERE key LIKE 'g_'
SELECT string_agg(key, ',' ORDER BY value DESC NULLS LAST, key), array_agg(key ORDER BY key DESC) FROM kv WHERE key LIKE 'g_'
SELECT count(*) FILTER (WHERE value = 'x'), count(value) FILTER (WHERE value <> 'x'), max(key) FILTER (WHERE value IS NULL) FROM kv WHERE key LIKE 'g_'
SELECT array_agg(DISTINCT n % 3) FROM generate_series(1, 7) n
SELECT string_agg(DISTINCT value, ',' ORDER BY key) FROM kv
SELECT length(DISTINCT 'a')
SELECT state, count(*) FROM (SELECT 'a' AS state UNION ALL SELECT 'b' UNION ALL SELECT 'a') AS s GROUP BY state ORDER BY state
SELECT a.n, (SELECT a.n + 1), count(*) FROM generate_series(1, 2) a(n), generate_series(1, 3) b GROUP BY a.n ORDER BY a.n
SELECT n / 2.0, count(*) FROM (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 1) t GROUP BY n / 2.0 ORDER BY 1
SELECT x, count(*) FROM (SELECT 1.0 AS x UNION ALL SELECT 1.00 UNION ALL SELECT NULL UNION ALL SELECT NULL) t GROUP BY x ORDER BY x
SELECT DISTINCT value FROM kv WHERE key LIKE 'g_' ORDER BY value DESC
SELECT DISTINCT left(key, 1) AS l, value IS NULL FROM kv WHERE key LIKE 'g_' ORDER BY l, 2
SELECT DISTINCT * FROM kv WHERE key = 'none'
SELECT DISTINCT count(*) FROM generate_series(1, 3) n GROUP BY n ORDER BY 1
SELECT DISTINCT value FROM kv ORDER BY key
SELECT datname, count(*) > 0 FROM pg_stat_activity WHERE datname IS NOT NULL GROUP BY datname HAVING datname = 'nope'
DELETE FROM kv WHERE key LIKE 'g_'

# WITH
WITH t AS (SELECT 1 AS a, 'x' AS b) SELECT * FROM t
WITH t(x, y) AS (SELECT 1, 2), u AS (SELECT x + y AS z FROM t) SELECT t.x, u.z FROM t, u
WITH t AS NOT MATERIALIZED (SELECT generate_series(1, 3) AS n) SELECT sum(n), (SELECT count(*) FROM t) FROM t
SELECT * FROM (WITH t AS (SELECT 5 AS a) SELECT a FROM t) s
SELECT (WITH t AS (SELECT 5 AS a) SELECT a FROM t)
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n), count(*) FROM t
WITH RECURSIVE t(n) AS (SELECT 1 UNION SELECT (n + 1) % 4 FROM t) SELECT n FROM t ORDER BY n
WITH RECURSIVE t AS (SELECT 1 AS a, 0 AS depth UNION ALL SELECT s.n, t.depth + 1 FROM t, (SELECT generate_series(1, 2) AS n) AS s WHERE t.depth < 2) SELECT a, depth, count(*) FROM t GROUP BY a, depth ORDER BY depth, a
state: WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT 'x' FROM t) SELECT * FROM t
WITH t(a, b) AS (SELECT 1) SELECT * FROM t
WITH t AS (SELECT nope) SELECT * FROM t
WITH t AS (SELECT 1) SELECT * FROM u
WITH t AS (VALUES (1, 'a'), (2, 'b')) SELECT column2 FROM t ORDER BY 1 DESC
SELECT 1 UNION SELECT 'x'
SELECT NULL UNION ALL SELECT 1 UNION ALL SELECT '2'

# What ORMs write
INSERT INTO kv (key, value) VALUES ('o1', '1') ON CONFLICT (key) DO UPDATE SET key = EXCLUDED.key, value = EXCLUDED.value RETURNING key, value
INSERT INTO kv (key, value) VALUES ('o1', '2') ON CONFLICT (key) DO UPDATE SET key = EXCLUDED.key, value = EXCLUDED.value RETURNING key, value
INSERT INTO kv (key, value) VALUES ('o1', '3') ON CONFLICT (key) DO UPDATE SET key = EXCLUDED.key RETURNING key, value
UPDATE kv SET key = 'o1', value = '4' WHERE key = 'o1' RETURNING key, value
UPDATE kv SET key = key, value = '5' WHERE key = 'o1' RETURNING value
UPDATE kv SET key = 'o1', key = 'o1' WHERE key = 'o1'
SELECT EXISTS (SELECT 1 FROM kv WHERE key = 'o1')
SELECT EXISTS (SELECT * FROM kv AS t WHERE t.key LIKE 'o%' AND value = 'none' LIMIT 1) AS found
SELECT EXISTS (SELECT nope FROM kv)
SELECT EXISTS (SELECT key FROM kv WHERE nope = 1)
SELECT key FROM kv WHERE key = 'o1' FOR UPDATE
SELECT key FROM kv WHERE key = 'o1' FOR NO KEY UPDATE OF kv NOWAIT
SELECT key FROM kv WHERE key = 'o1' LIMIT 1 FOR SHARE
SELECT key FROM kv FOR NOTHING
DELETE FROM kv WHERE key = 'o1'
SELECT tc.constraint_name, tc.constraint_type, kcu.column_name, kcu.ordinal_position FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kcu ON tc.constraint_name = kcu.constraint_name WHERE tc.table_name = 'kv' AND tc.constraint_type = 'PRIMARY KEY'
SELECT columns.column_name, columns.data_type, columns.character_maximum_length, columns.numeric_precision FROM information_schema.columns WHERE columns.table_name = 'kv' ORDER BY ordinal_position
SELECT a.attname FROM pg_attribute a JOIN (SELECT unnest(ix.indkey) attnum, generate_subscripts(ix.indkey, 1) ord FROM pg_index ix WHERE ix.indrelid = 'kv'::regclass AND ix.indisprimary) k ON a.attnum = k.attnum WHERE a.attrelid = 'kv'::regclass ORDER BY k.ord
SELECT t.typname, t.oid, t.typinput, t.typinput::oid, t.typoutput, t.typreceive::oid, t.typsend::oid, ti.proname, t.typlen, t.typelem FROM pg_type t JOIN pg_proc ti ON ti.oid = t.typinput WHERE t.typname IN ('bool', 'date', '_text', 'uuid', 'numeric', 'jsonb', 'pg_lsn', 'timestamptz', '_float8') ORDER BY t.oid
SELECT json_build_object('a', 1, 'b', null, 'c', 'x"y', 'd', true, 'e', now() IS NULL), json_build_object()
SELECT json_build_object('a')
SELECT t.oid, (WITH RECURSIVE b(oid, depth) AS (SELECT t2.typelem, 0 FROM pg_type t2 WHERE t2.oid = t.oid UNION ALL SELECT t2.typelem, depth + 1 FROM pg_type t2, b WHERE t2.oid = b.oid) SELECT oid FROM b ORDER BY depth LIMIT 1) FROM pg_type t WHERE t.typname IN ('_text', 'text') ORDER BY t.oid
SELECT n, (WITH t AS (SELECT a.n * 2 AS d) SELECT (SELECT d + 1 FROM t) FROM t) FROM generate_series(1, 3) AS a(n)
WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT 2) SELECT * FROM t
WITH RECURSIVE t AS (SELECT n + 1 AS m FROM (SELECT 1 AS n UNION ALL SELECT 2) "union") SELECT * FROM t ORDER BY m
WITH RECURSIVE t AS (SELECT n FROM (SELECT 1 AS n) "union") SELECT * FROM t
WITH RECURSIVE t AS (SELECT 3 AS n UNION SELECT 1 ORDER BY n LIMIT 1) SELECT * FROM t
state: WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t ORDER BY 1) SELECT * FROM t

# What monitoring tools ask: postgres_exporter, pgwatch and people
columns: select (extract(epoch from now()) * 1e9)::int8 as epoch_ns, numbackends, xact_commit, xact_rollback, blks_read, blks_hit, tup_returned, tup_fetched, tup_inserted, tup_updated, tup_deleted, conflicts, temp_files, temp_bytes, deadlocks, blk_read_time, blk_write_time, extract(epoch from (now() - pg_postmaster_start_time()))::int8 as postmaster_uptime_s, case when pg_is_in_recovery() then 1 else 0 end as in_recovery_int, system_identifier::text as tag_sys_id, session_time::int8, active_time::int8, idle_in_transaction_time::int8, sessions, sessions_abandoned, sessions_fatal, sessions_killed from pg_stat_database, pg_control_system() where datname = current_database()
columns: select pg_database_size(current_database()) as size_b, (select sum(pg_total_relation_size(c.oid)) from pg_class c join pg_namespace n on n.oid = c.relnamespace where nspname = 'pg_catalog' and relkind = 'r') as catalog_size_b
columns: with sa_snapshot as (select * from pg_stat_activity where pid != pg_backend_pid() and datname = current_database()) select (extract(epoch from now()) * 1e9)::int8 as epoch_ns, (select count(*) from sa_snapshot) as total, (select count(*) from sa_snapshot where state = 'active') as active, (select ceil(extract(epoch from max(now() - query_start)))::int from sa_snapshot where state = 'active') as longest, (select max(age(backend_xmin)) from sa_snapshot) as max_xmin_age_tx, (select count(*) from sa_snapshot where wait_event_type = 'Lock') as waiting
columns: select slot_name::text as tag_slot_name, coalesce(plugin, 'physical')::text as tag_plugin, active, case when active then 0 else 1 end as non_active_int, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 as restart_lsn_lag_b, greatest(age(xmin), age(catalog_xmin))::int8 as xmin_age_tx from pg_replication_slots
columns: select sum(size)::int8 as wal_size_b, count(*) from pg_ls_waldir()
columns: select count(*) from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$'
columns: select datname, age(datfrozenxid), mxid_age(datminmxid) from pg_database where datallowconn order by 1
columns: select c.oid::regclass, age(c.relfrozenxid) from pg_class c where c.relkind in ('r','m') and relname='kv'
columns: select * from pg_stat_bgwriter
columns: select * from pg_control_checkpoint()
columns: select * from pg_control_recovery()
columns: select * from pg_control_system()
columns: select pg_postmaster_start_time(), pg_conf_load_time()
columns: select txid_current_if_assigned(), pg_current_xact_id_if_assigned()
columns: select relname, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch, n_tup_ins, n_tup_upd, n_tup_del, n_live_tup, n_dead_tup, last_vacuum from pg_stat_user_tables
columns: select relname, heap_blks_read, heap_blks_hit, idx_blks_read from pg_statio_user_tables
columns: select indexrelname, idx_scan, idx_tup_read from pg_stat_user_indexes
columns: select locktype, mode, count(*) from pg_locks group by 1,2
columns: select l.locktype, l.mode, l.granted, a.datname, a.usename from pg_locks l left join pg_stat_activity a on a.pid = l.pid where not l.granted
columns: SELECT pg_database.datname, tmp.mode, COALESCE(count,0) as count FROM ( VALUES ('accesssharelock'), ('rowsharelock'), ('exclusivelock')) AS tmp(mode) CROSS JOIN pg_database LEFT JOIN (SELECT database, lower(mode) AS mode,count(*) AS count FROM pg_locks WHERE database IS NOT NULL GROUP BY database, lower(mode)) AS tmp2 ON tmp.mode=tmp2.mode and pg_database.oid = tmp2.database ORDER BY 1 limit 1
columns: SELECT pg_database.datname, tmp.state, tmp2.usename, tmp2.application_name, COALESCE(count,0) as count, COALESCE(max_tx_duration,0) as max_tx_duration FROM ( VALUES ('active'), ('idle'), ('disabled')) AS tmp(state) CROSS JOIN pg_database LEFT JOIN ( SELECT datname, state, usename, application_name, count(*) AS count, MAX(EXTRACT(EPOCH FROM now() - xact_start))::float AS max_tx_duration FROM pg_stat_activity GROUP BY datname,state,usename,application_name) AS tmp2 ON tmp.state = tmp2.state AND pg_database.datname = tmp2.datname limit 1
columns: SELECT *, (case pg_is_in_recovery() when 't' then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end) AS pg_current_wal_lsn, (case pg_is_in_recovery() when 't' then pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_lsn('0/0'))::float else pg_wal_lsn_diff(pg_current_wal_lsn(), pg_lsn('0/0'))::float end) AS pg_current_wal_lsn_bytes FROM pg_stat_replication limit 0
columns: SELECT *, extract(epoch from now() - last_archived_time) AS last_archive_age FROM pg_stat_archiver
columns: SELECT CASE WHEN NOT pg_is_in_recovery() THEN 0 WHEN pg_last_wal_receive_lsn () = pg_last_wal_replay_lsn () THEN 0 ELSE GREATEST (0, EXTRACT(EPOCH FROM (now() - pg_last_xact_replay_timestamp()))) END AS lag, CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END as is_replica
columns: SELECT pg_postmaster_start_time as start_time_seconds from pg_postmaster_start_time()
columns: SELECT current_database() datname, schemaname, relname, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch, n_tup_ins, n_tup_upd, n_tup_del, n_tup_hot_upd, n_live_tup, n_dead_tup, n_mod_since_analyze, COALESCE(last_vacuum, '1970-01-01Z') as last_vacuum, vacuum_count, pg_total_relation_size(relid) as total_size FROM pg_stat_user_tables
columns: SELECT current_database() datname, schemaname, relname, heap_blks_read, heap_blks_hit, idx_blks_read, idx_blks_hit, toast_blks_read, toast_blks_hit, tidx_blks_read, tidx_blks_hit FROM pg_statio_user_tables
columns: SELECT COUNT(*) as process_count FROM pg_stat_activity WHERE state='idle in transaction'
columns: SELECT slot_name, CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() - '0/0' ELSE pg_current_wal_lsn() - '0/0' END AS current_wal_lsn, COALESCE(confirmed_flush_lsn, '0/0') - '0/0' AS confirmed_flush_lsn, active FROM pg_replication_slots
columns: SELECT datname, pid, usename, state, query, now() - query_start as runtime, wait_event_type FROM pg_stat_activity WHERE state <> 'idle' and pid <> pg_backend_pid() ORDER BY query_start
columns: select pg_blocking_pids(1)
columns: select pid, pg_blocking_pids(pid) from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0
columns: select sum(pg_database_size(datname)) from pg_database where not datistemplate
columns: select nspname, relname, pg_size_pretty(pg_relation_size(c.oid)) as size from pg_class c left join pg_namespace n on n.oid = c.relnamespace where nspname not in ('pg_catalog', 'information_schema') order by pg_relation_size(c.oid) desc limit 20
columns: select pid, ssl, version from pg_stat_ssl where ssl
columns: select count(*) from pg_prepared_xacts
columns: select name, setting from pg_settings where name in ('max_connections','wal_level','shared_buffers') order by 1
columns: select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') >= 0
columns: select count(*) from pg_stat_user_functions
columns: select relname, n_live_tup from pg_stat_all_tables where relname = 'kv'
columns: select pg_stat_get_wal_senders()
columns: select pid, state from pg_stat_get_wal_senders() where false
columns: select datname, usename, client_addr, backend_xid, backend_xmin, query_id from pg_stat_activity limit 0
columns: select blks_hit::float/(blks_read + blks_hit + 1) as ratio from pg_stat_database where datname = current_database()
columns: select pg_size_pretty(pg_table_size('kv')), pg_size_pretty(pg_indexes_size('kv')), pg_relation_size('kv', 'fsm')
columns: select * from pg_stat_progress_vacuum
columns: select usename, usesuper from pg_shadow limit 1
columns: select schemaname, tablename, attname from pg_stats limit 0
columns: select current_setting('server_version_num')::int / 10000, current_setting('block_size')::int

# PREPARE and EXECUTE
PREPARE besides (text) AS SELECT key, value FROM kv WHERE key = $1
EXECUTE besides('nothing')
EXECUTE besides
EXECUTE besides('a', 'b')
EXECUTE nothing
PREPARE besides AS SELECT 1
state: PREPARE other AS BEGIN
SELECT name, parameter_types, from_sql FROM pg_prepared_statements WHERE name = 'besides'
DEALLOCATE besides
EXECUTE besides('a')

# Subqueries of kv
INSERT INTO kv (key, value) SELECT 'sub/' || g, g FROM generate_series(1, 5) g
SELECT key, value FROM kv WHERE key LIKE 'sub/%' AND value IN (SELECT value FROM kv WHERE key IN ('sub/2', 'sub/4')) ORDER BY key
SELECT key, (SELECT count(*) FROM kv x WHERE x.key LIKE 'sub/%' AND x.key < kv.key) AS before FROM kv WHERE key LIKE 'sub/%' ORDER BY key
SELECT key, count(*) OVER () FROM kv WHERE key LIKE 'sub/%' ORDER BY key LIMIT 2
UPDATE kv SET value = (SELECT k.value FROM kv k WHERE k.key LIKE 'sub/%' AND k.key < kv.key ORDER BY k.key DESC LIMIT 1) WHERE key LIKE 'sub/%'
SELECT key, value FROM kv WHERE key LIKE 'sub/%' ORDER BY key
INSERT INTO kv (key, value) SELECT key, 'x' FROM kv WHERE key LIKE 'sub/%' ON CONFLICT (key) DO UPDATE SET value = excluded.value || kv.key RETURNING key, value
INSERT INTO kv (key) SELECT key, value FROM kv
INSERT INTO kv (key, value) SELECT key FROM kv
SELECT value, count(*) OVER () FROM kv WHERE key LIKE 'sub/%' ORDER BY key DESC LIMIT 2
SELECT key, count(*) OVER (PARTITION BY value) FROM kv WHERE key LIKE 'sub/%' ORDER BY value NULLS FIRST, kv.key DESC LIMIT 3
SELECT generate_series(1, 2) FROM (SELECT key FROM kv WHERE key LIKE 'sub/%') x ORDER BY key DESC LIMIT 3
SELECT exists (SELECT 1 / 0 FROM kv), exists (SELECT key FROM kv WHERE key = 'none'), exists (SELECT max(key) FROM kv WHERE key = 'none')
code: SELECT (SELECT 1 / (2 - g) FROM generate_series(0, 2) g)
SELECT 1 WHERE 1.5 IN (SELECT 1) OR 1 IN (SELECT 1.0) AND 1::bigint IN (SELECT 1) AND 1::float8 NOT IN (SELECT 1.5)
SELECT NULL IN (SELECT 1 WHERE false), 1 IN (SELECT NULL::int), 1 NOT IN (SELECT 1 WHERE false), 1 < ALL (SELECT NULL::int)
SELECT 1 WHERE 1 IN (SELECT value FROM kv)
SELECT key FROM kv WHERE key IN (SELECT NULL) OR key IN (SELECT '')
SELECT key FROM kv WHERE key LIKE (SELECT 'sub/%') ORDER BY key LIMIT (SELECT 2) OFFSET (SELECT 1)
WITH RECURSIVE r(k) AS (SELECT min(key) FROM kv WHERE key LIKE 'sub/%' UNION ALL SELECT (SELECT min(key) FROM kv WHERE key > r.k AND key LIKE 'sub/%') FROM r WHERE r.k IS NOT NULL) SELECT k FROM r
INSERT INTO kv (key, value) SELECT 'sub/twice', 'a' UNION ALL SELECT 'sub/twice', 'b'
INSERT INTO kv (key, value) SELECT 'sub/twice', 'a' UNION ALL SELECT 'sub/twice', 'b' ON CONFLICT (key) DO UPDATE SET value = excluded.value
INSERT INTO kv (key, value) SELECT 'sub/twice', 'a' UNION ALL SELECT 'sub/twice', 'b' ON CONFLICT DO NOTHING RETURNING key, value
INSERT INTO kv (key, value) SELECT key, * FROM kv
BEGIN READ ONLY; INSERT INTO kv SELECT 'sub/none', 'x' WHERE false
ROLLBACK
BEGIN READ ONLY; PREPARE "sub ""é" AS INSERT INTO kv SELECT 'sub/none', 'x'; EXECUTE "sub ""é"
ROLLBACK; PREPARE "sub ""é" AS SELECT 1
EXECUTE "no ""é"
BEGIN; SELECT 1 / 0
EXECUTE "sub ""é"
ROLLBACK; DEALLOCATE ALL; EXECUTE "sub ""é"
DELETE FROM kv WHERE key IN (SELECT key FROM kv WHERE key LIKE 'sub/%')

# EXPLAIN
EXPLAIN (COSTS OFF) SELECT 1
EXPLAIN (COSTS OFF) SELECT 1 WHERE false
EXPLAIN (COSTS OFF) VALUES (1), (2)
EXPLAIN (COSTS OFF, VERBOSE) SELECT 1, 'a'
EXPLAIN (COSTS OFF) SELECT g FROM generate_series(1, 3) g WHERE g > 1
EXPLAIN (COSTS OFF, ANALYZE, TIMING OFF, SUMMARY OFF) SELECT g FROM generate_series(1, 3) g WHERE g > 1
EXPLAIN (COSTS OFF, ANALYZE, TIMING OFF, SUMMARY OFF) SELECT 1 WHERE false
EXPLAIN (COSTS OFF) SELECT g FROM generate_series(1, 3) g ORDER BY g DESC NULLS LAST LIMIT 2
EXPLAIN (COSTS OFF) SELECT count(*) FROM generate_series(1, 3) g
EXPLAIN (COSTS OFF) SELECT g, count(*) FROM generate_series(1, 3) g GROUP BY g
EXPLAIN (COSTS OFF) INSERT INTO kv VALUES ('explained', 'y')
EXPLAIN (COSTS OFF) INSERT INTO kv VALUES ('explained', 'y') ON CONFLICT (key) DO NOTHING
EXPLAIN (COSTS OFF, FORMAT JSON) SELECT 1
EXPLAIN (COSTS OFF, FORMAT JSON, ANALYZE, TIMING OFF, SUMMARY OFF) SELECT 1
EXPLAIN (FORMAT nope) SELECT 1
EXPLAIN (nope) SELECT 1
EXPLAIN (ANALYZE maybe) SELECT 1
EXPLAIN (TIMING) SELECT 1
EXPLAIN (WAL) SELECT 1
EXPLAIN BEGIN
EXPLAIN SELECT nope
EXPLAIN SELECT * FROM nope

# Sizes, and the ends of the connection
SELECT pg_size_bytes('1'), pg_size_bytes(' 1.5 kB '), pg_size_bytes('-2MB'), pg_size_bytes('+.5 gb'), pg_size_bytes('1e3 Bytes'), pg_size_bytes('1 tb'), pg_size_bytes('3 PB'), pg_size_bytes('1.')
SELECT pg_size_bytes('')
SELECT pg_size_bytes('x')
SELECT pg_size_bytes('1 nope')
SELECT pg_size_bytes('1 kB x')
SELECT pg_size_bytes('9e30')
SELECT pg_size_bytes('1e')
SELECT inet_server_addr() = '127.0.0.1', inet_client_addr() = '127.0.0.1', inet_server_port() > 0, inet_client_port() > 0

# WITH before a write, and rows in the rows of a subquery
INSERT INTO kv VALUES ('with/a', '1'), ('with/b', '2'), ('with/c', '3')
WITH w(k, v) AS (SELECT key, value FROM kv WHERE key LIKE 'with/%' AND value < '3') INSERT INTO kv SELECT k || '/copy', v FROM w RETURNING key, value
WITH w AS (SELECT max(key) AS k, count(*) AS n FROM kv WHERE key LIKE 'with/%') UPDATE kv SET value = (SELECT n FROM w)::text WHERE key = (SELECT k FROM w) RETURNING key, value
WITH w AS (SELECT key FROM kv WHERE key LIKE 'with/%/copy') DELETE FROM kv WHERE key IN (SELECT key FROM w) RETURNING key
SELECT key FROM kv WHERE (key, value) IN (SELECT 'with/' || v, n FROM (VALUES ('b', '2'), ('c', '9')) x(v, n))
SELECT key FROM kv WHERE key LIKE 'with/%' AND (key, value) NOT IN (SELECT 'with/' || v, n FROM (VALUES ('b', '2'), ('c', '9')) x(v, n)) ORDER BY key
SELECT (1, 2) IN (SELECT 1, null::int), (1, 2) IN (SELECT 2, null::int), (1, 2) NOT IN (SELECT 1, 3), (null, 2) IN (SELECT 1, 2), (1, 2) IN (SELECT 1, 2 WHERE false)
SELECT (1, 2) IN (SELECT 1)
SELECT (1, 2) IN (SELECT 1, 2, 3)
SELECT (1, 'x'::text) IN (SELECT 1, 2)
SELECT key FROM kv WHERE (key, value) IN (('with/a', '1'), ('with/b', '1')) OR key = 'with/b' AND value = '2' ORDER BY key
DELETE FROM kv WHERE key LIKE 'with/%'

# Cursors that scroll, and that are held
BEGIN; DECLARE s SCROLL CURSOR FOR SELECT * FROM generate_series(1, 5) g ORDER BY g; FETCH BACKWARD s; FETCH 2 s; FETCH PRIOR s; FETCH PRIOR s; FETCH ALL s; FETCH s; FETCH BACKWARD 2 s; FETCH 0 s; MOVE 0 s; FETCH ABSOLUTE 2 s; FETCH RELATIVE 2 s; FETCH RELATIVE -3 s; FETCH RELATIVE 0 s; FETCH FIRST s; FETCH LAST s; FETCH ABSOLUTE -2 s
FETCH ABSOLUTE 9 s; FETCH BACKWARD 1 s; FETCH ABSOLUTE 0 s; FETCH NEXT s; MOVE BACKWARD ALL s; MOVE ALL s; MOVE ABSOLUTE 3 s; FETCH FORWARD -1 s; FETCH BACKWARD -2 s; FETCH ABSOLUTE -9 s; FETCH RELATIVE 1 s; COMMIT
BEGIN; DECLARE f NO SCROLL CURSOR FOR SELECT * FROM generate_series(1, 5) g; FETCH RELATIVE 2 f; FETCH BACKWARD 1 f
ROLLBACK
DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT * FROM generate_series(1, 3) g ORDER BY g
FETCH 2 h
FETCH LAST h
CLOSE h
BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT 1; ROLLBACK
FETCH h
DECLARE h CURSOR WITH HOLD FOR SELECT 1
SELECT 1 / 0
BEGIN; SELECT 1 / 0
ROLLBACK
FETCH h
CLOSE ALL
FETCH h
# Joins of kv
INSERT INTO kv VALUES ('join/a', 'join/b'), ('join/b', 'join/c'), ('join/c', 'x'), ('join/x', null), ('join/y', 'join/a')
SELECT a.key, b.key, b.value FROM kv a JOIN kv b ON a.value = b.key WHERE a.key LIKE 'join/%' ORDER BY 1
SELECT a.key, b.key FROM kv a LEFT JOIN kv b ON a.value = b.key AND b.value <> 'x' WHERE a.key LIKE 'join/%' ORDER BY 1
SELECT a.key, b.key FROM kv a LEFT JOIN kv b ON a.value = b.key WHERE a.key LIKE 'join/%' AND b.value IS NULL ORDER BY 1
SELECT key, n FROM kv JOIN (VALUES ('join/a', 1), ('join/x', 2), ('nope', 3)) v(k, n) ON kv.key = v.k ORDER BY n
SELECT g, key FROM generate_series(1, 4) g LEFT JOIN kv ON kv.key = 'join/' || substr('abcd', g, 1) AND value > 'join/b' ORDER BY g
SELECT key, a.value, b.v FROM kv a JOIN (SELECT key, upper(value) AS v FROM kv WHERE key < 'join/c') b USING (key) WHERE key LIKE 'join/%' ORDER BY key
SELECT count(*), max(a.value) FROM kv a, kv b WHERE a.key LIKE 'join/%' AND b.key LIKE 'join/%' AND a.value > b.key
SELECT a.key, count(b.key), string_agg(b.key, ',' ORDER BY b.key) FROM kv a LEFT JOIN kv b ON b.key > a.key AND b.key LIKE 'join/%' WHERE a.key LIKE 'join/%' GROUP BY a.key ORDER BY a.key
SELECT a.value, a.key, count(*) FROM kv a JOIN kv b ON b.value = a.key WHERE a.key LIKE 'join/%' GROUP BY a.key ORDER BY 2
SELECT DISTINCT b.value IS NULL FROM kv a LEFT JOIN kv b ON a.value = b.key WHERE a.key LIKE 'join/%' ORDER BY 1
SELECT a.key, (SELECT max(c.key) FROM kv c WHERE c.key < b.key AND c.key LIKE 'join/%') FROM kv a JOIN kv b ON a.value = b.key WHERE a.key LIKE 'join/%' ORDER BY 1
INSERT INTO kv SELECT 'join/' || a.key, b.value FROM kv a CROSS JOIN kv b WHERE a.key = 'join/a' AND b.key = 'join/c' RETURNING key, value
SELECT value FROM kv a JOIN kv b ON a.key = b.key
SELECT 1 FROM kv a JOIN kv b ON 1
SELECT a.value FROM kv a JOIN kv b ON a.key = b.value GROUP BY b.key
state: SELECT * FROM kv JOIN kv ON true
DELETE FROM kv WHERE key LIKE 'join/%'
# Types in arrays, and the names of what is converted
SELECT '{int4,"character varying",25,999999}'::regtype[], array['text', 'pg_catalog.bool']::regtype[], '{23,25}'::oid[]::regtype[]::oid[], ('{int4}'::regtype[])[1], '{int4,text}'::regtype[]::text[], array['"char"', '-', '0', null]::regtype[], '"char"'::regtype::oid
SELECT '{nope}'::regtype[]
SELECT array_agg(25::regtype), array_to_string(array[25, 23]::oid[]::regtype[], ', '), 25 = any('{text}'::regtype[])
SELECT key::name::text, length('a')::int8::text, (CASE WHEN true THEN 1 END)::text, (CASE WHEN true THEN 1 ELSE 'x'::text::int END), coalesce(1, 2)::text::name, (1 + 1)::text::name, (array['a'])[1]::name, (SELECT 1::int8), 'x'::text::name, null::text FROM (VALUES ('a')) v(key)
# Cursors that do not scroll, to a row that is still to come
BEGIN; DECLARE f NO SCROLL CURSOR FOR SELECT * FROM generate_series(1, 9) g; FETCH ABSOLUTE 0 f; FETCH FIRST f; FETCH ABSOLUTE 3 f; FETCH RELATIVE 2 f; MOVE ABSOLUTE 6 f; MOVE ABSOLUTE 7 f; FETCH f; FETCH ABSOLUTE 12 f; FETCH ABSOLUTE 12 f; FETCH ABSOLUTE 11 f; FETCH RELATIVE 1 f
FETCH ABSOLUTE 9 f
ROLLBACK
BEGIN; DECLARE h NO SCROLL CURSOR WITH HOLD FOR SELECT * FROM generate_series(1, 5) g; FETCH ABSOLUTE 2 h; COMMIT; FETCH ABSOLUTE 4 h; MOVE ABSOLUTE 9 h; FETCH ABSOLUTE 7 h; FETCH ABSOLUTE 7 h
FETCH FIRST h
CLOSE h
BEGIN; DECLARE f NO SCROLL CURSOR FOR SELECT 1 WHERE false; FETCH FIRST f; FETCH ABSOLUTE 2 f
FETCH FIRST f
ROLLBACK
BEGIN; DECLARE f NO SCROLL CURSOR FOR SELECT * FROM generate_series(1, 9) g; FETCH 3 f; MOVE 2 f; FETCH ABSOLUTE 7 f; FETCH ALL f; FETCH LAST f
ROLLBACK
EXPLAIN (COSTS OFF) DECLARE c CURSOR FOR SELECT 1
EXPLAIN (COSTS OFF) DECLARE c CURSOR FOR INSERT INTO kv VALUES ('q')
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) DECLARE c CURSOR WITH HOLD FOR SELECT g FROM generate_series(1, 3) g
FETCH c
# RIGHT, FULL and NATURAL JOIN, and rows of what is joined
INSERT INTO kv (key, value) VALUES ('a', 'b'), ('b', 'c'), ('c', 'x'), ('x', null), ('y', 'a')
SELECT a.key, b.key FROM kv a RIGHT JOIN kv b ON a.value = b.key ORDER BY 2
SELECT kv.key, v.* FROM kv RIGHT JOIN (VALUES ('a', 1), ('zz', 2)) v(k, n) ON kv.key = v.k ORDER BY n
SELECT kv.key, v.* FROM kv RIGHT OUTER JOIN (VALUES ('a', 1), ('zz', 2)) v(k, n) ON kv.key = v.k AND v.n > 1 ORDER BY n
SELECT kv.key, v.* FROM kv RIGHT JOIN (VALUES ('a', 1), ('zz', 2)) v(k, n) ON kv.key = v.k WHERE kv.key IS NULL ORDER BY n
SELECT a, b, c FROM generate_series(1, 3) a JOIN generate_series(2, 4) b ON a = b RIGHT JOIN generate_series(3, 6) c ON c = b ORDER BY 3
SELECT a, b, c FROM generate_series(1, 3) a FULL JOIN generate_series(2, 4) b ON a = b FULL JOIN generate_series(3, 6) c ON c = b ORDER BY 1, 2, 3
SELECT a, b, c FROM generate_series(1, 3) a LEFT JOIN generate_series(2, 4) b ON a = b RIGHT JOIN generate_series(3, 6) c ON c = b ORDER BY 1, 2, 3
SELECT x, a, b FROM generate_series(1, 2) x, generate_series(1, 3) a FULL JOIN generate_series(2, 4) b ON a = b ORDER BY 1, 2, 3
SELECT x, a, b FROM generate_series(1, 2) x, generate_series(1, 3) a FULL JOIN generate_series(2, 4) b ON a = b WHERE x = 2 AND b IS NULL ORDER BY 1, 2, 3
SELECT a, b FROM generate_series(1, 2) a FULL JOIN generate_series(2, 3) b ON a = b WHERE a IS NULL
SELECT x.key, g, b FROM kv x, generate_series(1, 2) g FULL JOIN generate_series(2, 3) b ON g = b WHERE x.key < 'c' ORDER BY 1, 2, 3
SELECT x, a, b FROM generate_series(2, 1, -1) x, LATERAL generate_series(1, x) a FULL JOIN generate_series(1, 2) b ON a = b ORDER BY 1, 2, 3
SELECT * FROM (VALUES (1, 2), (3, 4)) x(a, b) FULL JOIN (VALUES (1, 9), (7, 8)) y(a, c) USING (a) ORDER BY a
SELECT * FROM (VALUES (1, 2), (3, 4)) x(b, a) RIGHT JOIN (VALUES (4, 9), (7, 8)) y(c, a) USING (a) ORDER BY a
SELECT a, x.a, y.a FROM (VALUES (1, 2), (3, 4)) x(a, b) FULL JOIN (VALUES (1, 9), (7, 8)) y(a, c) USING (a) ORDER BY a
SELECT * FROM (VALUES (1, 2), (3, 4)) x(b, a) NATURAL JOIN (VALUES (2, 9), (7, 8)) y(a, c)
SELECT * FROM (VALUES (1, 2), (3, 4)) x(b, a) NATURAL LEFT JOIN (VALUES (2, 9), (7, 8)) y(a, c) ORDER BY 1
SELECT * FROM (VALUES (1, 2), (3, 4)) x(b, a) NATURAL FULL JOIN (VALUES (2, 9), (7, 8)) y(a, c) NATURAL JOIN (VALUES (2, 1)) z(a, b)
SELECT * FROM (VALUES (1, 2)) x(b, a) NATURAL JOIN (VALUES (2, 9)) y(c, d)
SELECT * FROM (VALUES (1, 2)) x(a, b) JOIN (VALUES (1, 3)) y(a, c) USING (a) JOIN (VALUES (2, 3, 4)) z(b, c, d) USING (b, c)
SELECT * FROM (VALUES (5)) w(a), (VALUES (1, 2)) x(a, b) JOIN (VALUES (1, 3)) y(a, c) USING (a)
SELECT * FROM (VALUES (1, 2)) x(a, b) JOIN (VALUES (1, 3)) y(a, b) ON true JOIN (VALUES (1)) z(a) USING (a)
SELECT * FROM (VALUES (1, 2)) x(a, b) JOIN (VALUES (1, 3)) y(a, b) ON true NATURAL JOIN (VALUES (1)) z(a)
SELECT * FROM (VALUES (1)) x(a) FULL JOIN (VALUES (1.5)) y(a) USING (a) ORDER BY 1
SELECT key, value FROM kv NATURAL JOIN (VALUES ('a'), ('q')) v(key) ORDER BY 1
SELECT key, v.key FROM kv NATURAL RIGHT JOIN (VALUES ('a'), ('q')) v(key) ORDER BY 1
SELECT key, kv.key, v.key FROM kv NATURAL FULL JOIN (VALUES ('a'), ('q')) v(key) ORDER BY 1
SELECT a.key, b.key FROM kv a FULL JOIN kv b ON a.value = b.key WHERE a.key IS NULL OR b.key IS NULL ORDER BY 1, 2
SELECT count(b), count(*) FROM kv a LEFT JOIN kv b ON a.value = b.key
SELECT k IS NULL, k::text LIKE '(a,b,%)' FROM kv k JOIN (VALUES ('a')) v(k2) ON k.key = v.k2
SELECT a.key, count(*) FROM kv a RIGHT JOIN kv b ON a.value = b.key GROUP BY a.key ORDER BY 1
SELECT key, count(*) FROM kv a FULL JOIN (VALUES ('a'), ('q')) v(key) USING (key) GROUP BY key ORDER BY 1
SELECT 1 FROM kv a NATURAL JOIN kv b ON true
SELECT 1 FROM kv a CROSS JOIN kv b ON true
SELECT a FROM generate_series(1, 2) a, generate_series(1, 2) b JOIN generate_series(1, 2) c ON a = c
SELECT 1 FROM (VALUES (1)) x(a) JOIN (VALUES (1)) y(b) USING (a)
SELECT 1 FROM (VALUES (1)) x(a) JOIN (VALUES (1)) y(b) USING (b)
SELECT 1 AS a, 2 AS a ORDER BY a
SELECT g AS a, g AS a FROM generate_series(1, 2) g ORDER BY a
UPDATE kv SET value = 'r' FROM generate_series(1, 2) g RIGHT JOIN (VALUES ('a', 2), ('b', 5)) v(k, n) ON g = n WHERE kv.key = v.k AND v.n = 5 RETURNING key, g, n
DELETE FROM kv WHERE key < 'z' AND length(key) = 1
# UPDATE … FROM and DELETE … USING
INSERT INTO kv VALUES ('from/a', '1'), ('from/b', '2'), ('from/c', '3'), ('from/d', null)
UPDATE kv SET value = d.v FROM unnest(ARRAY['from/a', 'from/b', 'x'], ARRAY['10', '20', '30']) AS d(k, v) WHERE kv.key = d.k RETURNING kv.key, kv.value, d.*
UPDATE kv k SET value = k.value || o.value FROM kv o WHERE o.key < k.key AND k.key = 'from/b' AND o.key LIKE 'from/%' RETURNING k.key, k.value, o.key AS other
WITH w(k, v) AS (VALUES ('from/a', 'w'), ('from/c', 'w')) UPDATE kv SET value = v FROM w WHERE key = k
UPDATE kv SET value = 'multi' FROM generate_series(1, 3) g WHERE key = 'from/a' RETURNING key, value
UPDATE kv SET value = v.v FROM (VALUES ('from/a', 'same'), ('from/a', 'same')) v(k, v) WHERE kv.key = v.k
DELETE FROM kv USING unnest(ARRAY['from/a', 'from/a', 'zz']) AS d(k) WHERE kv.key = d.k RETURNING kv.key, kv.value, d.k
DELETE FROM kv USING kv o WHERE o.key > kv.key AND kv.key = 'from/b' AND o.value IS NULL AND o.key LIKE 'from/%' RETURNING kv.key, o.key
UPDATE kv SET value = (SELECT max(v) FROM (VALUES ('7'), ('8')) m(v) WHERE m.v > s.v) FROM (VALUES ('from/c', '7'), ('from/d', '8')) s(k, v) WHERE s.k = kv.key RETURNING key, value, s.*
UPDATE kv SET value = b.value FROM kv a LEFT JOIN kv b ON b.key = a.value WHERE a.key = kv.key AND a.key = 'from/c' RETURNING kv.key, kv.value, a.value
DELETE FROM kv USING (VALUES ('from/c'), ('from/d')) v(k) LEFT JOIN kv o ON o.key = v.k || 'x' WHERE kv.key = v.k AND kv.key < 'from/d' AND o.key IS NULL RETURNING kv.key
SELECT key, value FROM kv WHERE key LIKE 'from/%' ORDER BY key
state: UPDATE kv SET value = 'x' FROM kv
state: DELETE FROM kv USING kv
UPDATE kv SET value = 'x' FROM kv a JOIN kv b ON a.key = kv.key
UPDATE kv SET value = 'x' FROM generate_series(1, 2) a JOIN generate_series(1, 2) b ON a = key::int
UPDATE kv k SET value = 'x' FROM generate_series(1, 2) a WHERE kv.key = 'a'
UPDATE kv SET value = 'x' FROM (SELECT kv.key) a
UPDATE kv SET value = nope.y FROM generate_series(1, 2) x
UPDATE kv SET value = key FROM kv b
UPDATE kv SET value = 'q' FROM nope
DELETE FROM kv USING nope
DELETE FROM kv USING kv b WHERE key = 'a'
UPDATE kv SET value = count(*) FROM generate_series(1, 2) x
DELETE FROM kv USING generate_series(1, 2) x WHERE count(*) > 1
UPDATE kv SET value = 'x' FROM generate_series(1, 2) x RETURNING count(*)
DELETE FROM kv WHERE key LIKE 'from/%'
