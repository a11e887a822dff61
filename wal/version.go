package wal

// A Version is the PostgreSQL major version that a cluster resembles: the one page magic its
// readers accept and what its servers say of themselves. It is chosen when a cluster is created and
// never changes. A version is added here once its tools have been checked against it.
type Version struct {
	Major          int
	PageMagic      uint16 // xlp_magic
	CatalogVersion uint32 // in PG_VERSION-aware file names and pg_control_system()
	Server         string // the number that starts server_version
}

// PG15 is PostgreSQL 15.
var PG15 = Version{Major: 15, PageMagic: 0xD110, CatalogVersion: 202209061, Server: "15.18"}
