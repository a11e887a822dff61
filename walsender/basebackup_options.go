package walsender

import (
	"compress/gzip"
	"strconv"
	"strings"
	"unicode"

	"github.com/longship-db/longship/pgwire"
)

// backupOptions are the options of BASE_BACKUP, checked.
type backupOptions struct {
	BackupOptions
	progress    bool
	maxRate     int64 // bytes/s; 0: no limit
	manifest    bool
	forceEncode bool
	checksum    checksum
	gzip        bool
	gzipLevel   int
}

// MAX_RATE in kB/s.
const (
	minRate = 32
	maxRate = 1 << 20
)

// maxLabel is the longest label (MAXPGPATH).
const maxLabel = 1024

// A backupOptionReader gathers options, some of which make sense only together.
type backupOptionReader struct {
	opt               backupOptions
	seen              map[string]bool
	target, detail    string
	compression       string
	compressionDetail string
}

// readBackupOptions checks the options of BASE_BACKUP. Errors have the text and SQLSTATE of
// PostgreSQL's parse_basebackup_options.
func readBackupOptions(list []option) (backupOptions, error) {
	r := backupOptionReader{seen: make(map[string]bool), target: "client", compression: "none"}
	r.opt.Label, r.opt.checksum, r.opt.gzipLevel = "base backup", checksumCRC32C, gzip.DefaultCompression
	for _, o := range list {
		if r.seen[o.name] {
			return backupOptions{}, syntaxErrorf("duplicate option %q", o.name)
		}
		r.seen[o.name] = true
		if err := r.read(o); err != nil {
			return backupOptions{}, err
		}
	}
	if err := r.checkTogether(); err != nil {
		return backupOptions{}, err
	}
	return r.opt, nil
}

func syntaxErrorf(format string, args ...any) error {
	return pgwire.Errorf(pgwire.CodeSyntaxError, format, args...)
}

func (r *backupOptionReader) read(o option) (err error) {
	switch o.name {
	case "label":
		return r.label(o)
	case "table": // ours: false for a member that keeps none
		var table bool
		table, err = o.bool()
		r.opt.Bare = !table
	case "progress":
		r.opt.progress, err = o.bool()
	case "checkpoint":
		return r.checkpoint(o)
	case "wal":
		r.opt.Log, err = o.bool()
	case "max_rate":
		return r.rate(o)
	case "wait", "tablespace_map", "verify_checksums": // nothing here depends on them
		_, err = o.bool()
	case "manifest":
		return r.manifest(o)
	case "manifest_checksums":
		return r.checksums(o)
	case "target":
		r.target, err = o.string()
	case "target_detail":
		r.detail, err = o.string()
	case "compression":
		r.compression, err = o.string()
	case "compression_detail":
		r.compressionDetail, err = o.string()
	default:
		return syntaxErrorf("unrecognized base backup option: %q", o.name)
	}
	return err
}

// label takes the label, which becomes a line of backup_label and must not become two.
func (r *backupOptionReader) label(o option) (err error) {
	if r.opt.Label, err = o.string(); err != nil {
		return err
	}
	if len(r.opt.Label) > maxLabel {
		return pgwire.Errorf(pgwire.CodeInvalidParameterValue, "backup label too long (max %d bytes)", maxLabel)
	}
	if strings.ContainsFunc(r.opt.Label, unicode.IsControl) {
		return pgwire.Errorf(pgwire.CodeInvalidParameterValue, "backup label contains a control character")
	}
	return nil
}

func (r *backupOptionReader) checkpoint(o option) error {
	kind, err := o.string()
	if err != nil {
		return err
	}
	switch strings.ToLower(kind) {
	case "fast":
		r.opt.Fast = true
	case "spread":
	default:
		return syntaxErrorf("unrecognized checkpoint type: %q", kind)
	}
	return nil
}

func (r *backupOptionReader) rate(o option) error {
	n, err := o.int()
	if err != nil {
		return err
	}
	if n < minRate || n > maxRate {
		return pgwire.Errorf(pgwire.CodeNumericValueOutOfRange, "%d is outside the valid range for parameter %q (%d .. %d)", n, "MAX_RATE", minRate, maxRate)
	}
	r.opt.maxRate = n * 1024
	return nil
}

func (r *backupOptionReader) manifest(o option) error {
	s, err := o.string()
	if err != nil {
		return err
	}
	switch strings.ToLower(s) {
	case "yes", "on", "true", "1":
		r.opt.manifest = true
	case "no", "off", "false", "0":
	case "force-encode":
		r.opt.manifest, r.opt.forceEncode = true, true
	default:
		return syntaxErrorf("unrecognized manifest option: %q", s)
	}
	return nil
}

func (r *backupOptionReader) checksums(o option) error {
	name, err := o.string()
	if err != nil {
		return err
	}
	var ok bool
	if r.opt.checksum, ok = checksumByName(name); !ok {
		return syntaxErrorf("unrecognized checksum algorithm: %q", name)
	}
	return nil
}

func (r *backupOptionReader) checkTogether() error {
	switch {
	case r.seen["manifest_checksums"] && !r.opt.manifest:
		return syntaxErrorf("manifest checksums require a backup manifest")
	case r.seen["target_detail"] && !r.seen["target"]:
		return syntaxErrorf("target detail cannot be used without target")
	case r.target != "client":
		return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "base backup target %q is not supported", r.target).
			WithHint("Have the backup sent to the client.")
	case r.seen["target_detail"]:
		return syntaxErrorf("target %q does not accept a target detail", r.target)
	case r.seen["compression_detail"] && !r.seen["compression"]:
		return syntaxErrorf("compression detail cannot be specified unless compression is enabled")
	}
	return r.compress()
}

func (r *backupOptionReader) compress() error {
	switch r.compression {
	case "none":
		if r.compressionDetail != "" {
			return syntaxErrorf("invalid compression specification: compression algorithm \"none\" does not accept a compression level")
		}
		return nil
	case "gzip":
		r.opt.gzip = true
		return r.level()
	case "lz4", "zstd":
		return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "this server does not support compression with %s", r.compression).
			WithHint("Use gzip or none.")
	default:
		return syntaxErrorf("unrecognized compression algorithm: %q", r.compression)
	}
}

// level reads a compression detail: a number, or level=number.
func (r *backupOptionReader) level() error {
	if r.compressionDetail == "" {
		return nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(r.compressionDetail, "level="))
	if err != nil {
		return syntaxErrorf("invalid compression specification: unrecognized compression option: %q", r.compressionDetail)
	}
	if n < gzip.BestSpeed || n > gzip.BestCompression {
		return syntaxErrorf("invalid compression specification: compression algorithm \"gzip\" expects a compression level between 1 and 9")
	}
	r.opt.gzipLevel = n
	return nil
}
