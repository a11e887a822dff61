// What a Node.js program does: a pool, named statements, arrays, a failed transaction, cursors, a timeout.
// Run by TestDrivers with the port.
const { Pool, Client } = require('pg');
const Cursor = require('pg-cursor');
const assert = require('assert');
(async () => {
  const pool = new Pool({ host: '127.0.0.1', port: +process.argv[2], user: 'test', database: 'test', max: 5 });
  await Promise.all([...Array(50).keys()].map(i => pool.query('INSERT INTO kv VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value', ['node' + i, String(i)])));
  let r = await pool.query("SELECT count(*)::int AS n FROM kv WHERE key LIKE 'node%'");
  assert.strictEqual(r.rows[0].n, 50);
  r = await pool.query({ name: 'get', text: 'SELECT key, value, lsn FROM kv WHERE key = $1', values: ['node7'] });
  assert.strictEqual(r.rows[0].value, '7'); assert.strictEqual(typeof r.rows[0].lsn, 'string');
  r = await pool.query('SELECT key FROM kv WHERE key = ANY($1) ORDER BY key', [['node1', 'node2']]);
  assert.deepStrictEqual(r.rows.map(x => x.key), ['node1', 'node2']);
  r = await pool.query({ text: 'SELECT now() AS at, true AS b, 1.5::float8 AS f, $1::int8 AS big', values: [5], rowMode: 'array' });
  assert.ok(r.rows[0][0] instanceof Date);
  const c = await pool.connect();
  await c.query('BEGIN'); await c.query("UPDATE kv SET value = 'x' WHERE key = 'node0'");
  await assert.rejects(c.query('SELECT nope'), e => e.code === '42703' && e.position === '8');
  await assert.rejects(c.query('SELECT 1'), { code: '25P02' });
  await c.query('ROLLBACK');
  const cur = c.query(new Cursor("SELECT key FROM kv WHERE key LIKE $1 ORDER BY key", ['node%']));
  let n = 0; for (;;) { const rows = await cur.read(7); if (!rows.length) break; n += rows.length; }
  assert.strictEqual(n, 50); await cur.close();
  const c3 = c.query(new Cursor("SELECT key FROM kv ORDER BY key", [])); await c3.read(3); await c3.close();
  r = await c.query('SELECT 1 AS one; SELECT 2 AS two'); assert.strictEqual(r[1].rows[0].two, 2);
  c.release();
  const q = new Client({ host: '127.0.0.1', port: +process.argv[2], user: 'test', database: 'test', statement_timeout: 200 });
  await q.connect(); await assert.rejects(q.query('SELECT pg_sleep(5)'), { code: '57014' }); await q.end();
  await pool.end();
})().catch(e => { console.error(e); process.exit(1); });
