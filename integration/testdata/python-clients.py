"""What Python's drivers do with a table. Arguments: the driver and the port. Ends with 77 if the driver is not there."""
import asyncio
import datetime
import sys
import uuid

NOT_INSTALLED = 77
driver, port = sys.argv[1], int(sys.argv[2])
DAY = datetime.date(2020, 1, 2)
ID = uuid.UUID(int=5)
UPSERT = "INSERT INTO kv (key, value) VALUES ({0}, {1}) ON CONFLICT (key) DO UPDATE SET key = EXCLUDED.key, value = EXCLUDED.value"


def check(got, want):
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def psycopg2():
    import psycopg2
    import psycopg2.extras

    psycopg2.extras.register_uuid()
    conn = psycopg2.connect(host="127.0.0.1", port=port, user="test", dbname="test", options="-c jit=off -c work_mem=4MB")
    cur = conn.cursor()
    rows = [(f"p2-{i:02}", str(i % 3)) for i in range(50)]
    psycopg2.extras.execute_values(cur, "INSERT INTO kv (key, value) VALUES %s", rows)
    conn.commit()
    cur.execute(UPSERT.format("%s", "%s") + " RETURNING value", ("p2-00", DAY))
    check(cur.fetchall(), [("2020-01-02",)])
    try:
        cur.execute("INSERT INTO kv VALUES ('p2-00')")
    except psycopg2.errors.UniqueViolation as e:
        check(e.diag.constraint_name, "kv_pkey")
    conn.rollback()
    cur.execute("SELECT %s, %s, %s, %s", (DAY, ID, b"a\0", [1, 2]))
    day, ident, data, numbers = cur.fetchone()
    check((day, ident, bytes(data), numbers), (DAY, ID, b"a\0", [1, 2]))
    cur.execute("SELECT value, count(*) FROM kv WHERE key LIKE 'p2-%%' GROUP BY value HAVING count(*) > %s ORDER BY value", (2,))
    check(cur.fetchall(), [("0", 17), ("1", 17), ("2", 16)])
    with conn.cursor("named") as named:
        named.itersize = 7
        named.execute("SELECT key FROM kv WHERE key LIKE 'p2-%' ORDER BY key")
        check([key for key, in named], [key for key, _ in rows])
    conn.commit()


async def asyncpg():
    import asyncpg

    pool = await asyncpg.create_pool(host="127.0.0.1", port=port, user="test", database="test", ssl=False, min_size=1, max_size=2,
                                     server_settings={"jit": "off"})
    await pool.executemany(UPSERT.format("$1", "$2"), [(f"ap-{i:02}", str(i)) for i in range(20)])
    # The types of arrays are looked up, by a recursive query.
    check(await pool.fetchval("SELECT $1::int[]", [1, 2]), [1, 2])
    check(await pool.fetchval("SELECT $1::date", DAY), DAY)
    check(await pool.fetchval("SELECT $1::uuid", ID), ID)
    async with pool.acquire() as conn:
        try:
            await conn.execute("SELECT nope WHERE $1 = 'a'", "a")  # waits for the error of Parse without Sync
        except asyncpg.UndefinedColumnError:
            pass
        async with conn.transaction():
            check([r["key"] async for r in conn.cursor("SELECT key FROM kv WHERE key LIKE 'ap-%' ORDER BY key LIMIT 3", prefetch=2)],
                  ["ap-00", "ap-01", "ap-02"])
        check(await conn.copy_records_to_table("kv", records=[("ap-x", "y")], columns=["key", "value"]), "COPY 1")
        await conn.reset()
    check(await pool.fetchval("SELECT EXISTS (SELECT 1 FROM kv WHERE key = $1)", "ap-x"), True)
    await pool.close()


def sqlalchemy():
    from sqlalchemy import Column, MetaData, Text, create_engine, func, inspect
    from sqlalchemy.orm import declarative_base, sessionmaker
    import psycopg2  # noqa: the driver beneath

    engine = create_engine(f"postgresql+psycopg2://test@127.0.0.1:{port}/test", pool_pre_ping=True)
    tables = inspect(engine)
    check(tables.has_table("kv"), True)
    check([c["name"] for c in tables.get_columns("kv")], ["key", "value", "lsn"])
    check(tables.get_pk_constraint("kv"), {"constrained_columns": ["key"], "name": "kv_pkey"})
    meta = MetaData()
    meta.reflect(engine)
    check([c.name for c in meta.tables["kv"].primary_key], ["key"])

    base = declarative_base()

    class Row(base):
        __tablename__ = "kv"
        key = Column(Text, primary_key=True)
        value = Column(Text)

    base.metadata.create_all(engine)  # asks, and finds it there
    with sessionmaker(engine)() as session:
        session.add_all([Row(key="sa1", value="1"), Row(key="sa2"), Row(key="sa3", value="1")])
        session.commit()
        session.merge(Row(key="sa2", value="2"))
        session.commit()
        some = session.query(Row).filter(Row.key.like("sa%"))
        check(some.filter(Row.key == "sa1").with_for_update().one().value, "1")
        counts = session.query(Row.value, func.count()).filter(Row.key.like("sa%")).group_by(Row.value).order_by(Row.value)
        check(counts.all(), [("1", 2), ("2", 1)])
        check(session.query(some.exists()).scalar(), True)


try:
    run = {"psycopg2": psycopg2, "asyncpg": asyncpg, "sqlalchemy": sqlalchemy}[driver]
    asyncio.run(run()) if asyncio.iscoroutinefunction(run) else run()
except ModuleNotFoundError as e:
    print(e)
    sys.exit(NOT_INSTALLED)
