package sql

import (
	"slices"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// A copyFormat is how rows look in the data of a COPY (PostgreSQL 15 manual, "COPY", "File Formats").
type copyFormat struct {
	csv, binary   bool
	delim         byte
	null          string
	quote, escape byte // of csv
	header        copyHeader
	freeze        bool

	forceQuoteAll                       bool
	forceQuote, forceNotNull, forceNull []columnName
}

// code is the format as the protocol has it.
func (f *copyFormat) code() int16 {
	if f.binary {
		return binaryFormat
	}
	return textFormat
}

// A copyHeader says what the first line is.
type copyHeader uint8

const (
	copyNoHeader   copyHeader = iota
	copyAnyNames              // something to be skipped
	copyExactNames            // the names of the columns
)

// A copyOptions reads the options of one COPY. Strings that were not given are nil.
type copyOptions struct {
	src   string
	from  bool
	seen  map[string]bool
	delim *string
	null  *string
	quote *string
	esc   *string
	out   copyFormat
}

// readCopyOptions works out what the options of a COPY come to. Like an analyzer it panics with a
// *pgwire.Error; which of several mistakes is reported follows PostgreSQL 15 (ProcessCopyOptions).
func readCopyOptions(src string, s *copyStmt) copyFormat {
	o := &copyOptions{src: src, from: s.from, seen: map[string]bool{}}
	for i := range s.options {
		o.take(&s.options[i])
	}
	o.checkBinary()
	o.setDefaults()
	o.checkStrings()
	o.checkModes()
	return o.out
}

func (o *copyOptions) fail(opt *copyOption, code, format string, args ...any) {
	panic(errorAt(o.src, opt.at(), code, format, args...))
}

// take notes one option.
func (o *copyOptions) take(opt *copyOption) {
	switch opt.name {
	case "format", "freeze", "delimiter", "null", "header", "quote", "escape", "encoding",
		"force_quote", "force_not_null", "force_null":
	default:
		o.fail(opt, pgwire.CodeSyntaxError, `option "%s" not recognized`, opt.name)
	}
	if o.seen[opt.name] {
		o.fail(opt, pgwire.CodeSyntaxError, "conflicting or redundant options")
	}
	o.seen[opt.name] = true
	switch opt.name {
	case "format":
		o.format(opt)
	case "freeze":
		o.out.freeze = opt.boolean()
	case "delimiter":
		o.delim = new(opt.value())
	case "null":
		o.null = new(opt.value())
	case "header":
		o.header(opt)
	case "quote":
		o.quote = new(opt.value())
	case "escape":
		o.esc = new(opt.value())
	case "encoding":
		if !isUTF8(opt.value()) {
			panic(errorAt(o.src, opt.at(), pgwire.CodeInvalidParameterValue,
				`argument to option "encoding" must be a valid encoding name`).WithHint("The only encoding is UTF8."))
		}
	default:
		o.force(opt)
	}
}

func (o *copyOptions) format(opt *copyOption) {
	switch format := opt.value(); format {
	case "text":
	case "csv":
		o.out.csv = true
	case "binary":
		o.out.binary = true
	default:
		o.fail(opt, pgwire.CodeInvalidParameterValue, `COPY format "%s" not recognized`, format)
	}
}

func (o *copyOptions) header(opt *copyOption) {
	if opt.kind == copyValue && strings.EqualFold(opt.text, "match") {
		if !o.from {
			panic(pgwire.Errorf(pgwire.CodeFeatureNotSupported, `cannot use "match" with HEADER in COPY TO`))
		}
		o.out.header = copyExactNames
		return
	}
	on, ok := opt.maybeBoolean()
	if !ok {
		panic(pgwire.Errorf(pgwire.CodeSyntaxError, `header requires a Boolean value or "match"`))
	}
	if on {
		o.out.header = copyAnyNames
	}
}

// force notes the columns of FORCE_QUOTE and its like.
func (o *copyOptions) force(opt *copyOption) {
	switch {
	case opt.kind == copyStar && opt.name == "force_quote":
		o.out.forceQuoteAll = true
	case opt.kind != copyList:
		o.fail(opt, pgwire.CodeInvalidParameterValue, `argument to option "%s" must be a list of column names`, opt.name)
	case opt.name == "force_quote":
		o.out.forceQuote = opt.list
	case opt.name == "force_not_null":
		o.out.forceNotNull = opt.list
	default:
		o.out.forceNull = opt.list
	}
}

// value is the option's argument as a string.
func (opt *copyOption) value() string {
	switch opt.kind {
	case copyNone:
		panic(pgwire.Errorf(pgwire.CodeSyntaxError, "%s requires a parameter", opt.name))
	case copyStar:
		return "*"
	case copyList:
		names := make([]string, len(opt.list))
		for i, c := range opt.list {
			names[i] = c.name
		}
		return strings.Join(names, ".")
	}
	return opt.text
}

func (opt *copyOption) boolean() bool {
	on, ok := opt.maybeBoolean()
	if !ok {
		panic(pgwire.Errorf(pgwire.CodeSyntaxError, "%s requires a Boolean value", opt.name))
	}
	return on
}

// maybeBoolean is the argument as a boolean: nothing means yes.
func (opt *copyOption) maybeBoolean() (on, ok bool) {
	switch text := strings.ToLower(opt.value0()); {
	case opt.kind == copyNone, opt.kind == copyNumber && text == "1":
		return true, true
	case opt.kind == copyNumber:
		return false, text == "0"
	default:
		return text == "true" || text == "on", text == "true" || text == "on" || text == "false" || text == "off"
	}
}

// value0 is value, or nothing if there is none.
func (opt *copyOption) value0() string {
	if opt.kind == copyNone {
		return ""
	}
	return opt.value()
}

// checkBinary refuses what binary format has no use for.
func (o *copyOptions) checkBinary() {
	refuse := func(wrong bool, code, option string) {
		if wrong && o.out.binary {
			panic(pgwire.Errorf(code, "cannot specify %s in BINARY mode", option))
		}
	}
	refuse(o.delim != nil, pgwire.CodeSyntaxError, "DELIMITER")
	refuse(o.null != nil, pgwire.CodeSyntaxError, "NULL")
	refuse(o.out.header != copyNoHeader, pgwire.CodeFeatureNotSupported, "HEADER")
}

func (o *copyOptions) setDefaults() {
	set := func(s **string, text string) {
		if *s == nil {
			*s = &text
		}
	}
	if !o.out.csv {
		set(&o.delim, "\t")
		set(&o.null, `\N`)
		return
	}
	set(&o.delim, ",")
	set(&o.null, "")
	set(&o.quote, `"`)
	set(&o.esc, *o.quote)
}

// checkStrings checks delimiter, NULL, quote and escape.
func (o *copyOptions) checkStrings() {
	const unsupported, invalid = pgwire.CodeFeatureNotSupported, pgwire.CodeInvalidParameterValue
	csv, delim, null := o.out.csv, *o.delim, *o.null
	refuse := func(wrong bool, code, format string, args ...any) {
		if wrong {
			panic(pgwire.Errorf(code, format, args...))
		}
	}
	refuse(len(delim) != 1, unsupported, "COPY delimiter must be a single one-byte character")
	refuse(strings.ContainsAny(delim, "\r\n"), invalid, "COPY delimiter cannot be newline or carriage return")
	refuse(strings.ContainsAny(null, "\r\n"), invalid, "COPY null representation cannot use newline or carriage return")
	refuse(!csv && strings.Contains(`\.abcdefghijklmnopqrstuvwxyz0123456789`, delim), invalid, `COPY delimiter cannot be "%s"`, delim)
	refuse(!csv && o.quote != nil, unsupported, "COPY quote available only in CSV mode")
	refuse(csv && len(*o.orEmpty(o.quote)) != 1, unsupported, "COPY quote must be a single one-byte character")
	refuse(csv && delim == *o.orEmpty(o.quote), invalid, "COPY delimiter and quote must be different")
	refuse(!csv && o.esc != nil, unsupported, "COPY escape available only in CSV mode")
	refuse(csv && len(*o.orEmpty(o.esc)) != 1, unsupported, "COPY escape must be a single one-byte character")
	o.out.delim, o.out.null = delim[0], null
	if csv {
		o.out.quote, o.out.escape = (*o.quote)[0], (*o.esc)[0]
	}
}

func (*copyOptions) orEmpty(s *string) *string {
	if s == nil {
		return new(string)
	}
	return s
}

// checkModes checks what is only for csv, and only for one direction.
func (o *copyOptions) checkModes() {
	out := &o.out
	refuse := func(wrong bool, message string) {
		if wrong {
			panic(pgwire.Errorf(pgwire.CodeFeatureNotSupported, "%s", message))
		}
	}
	quoted := out.forceQuoteAll || out.forceQuote != nil
	refuse(!out.csv && quoted, "COPY force quote available only in CSV mode")
	refuse(o.from && quoted, "COPY force quote only available using COPY TO")
	refuse(!out.csv && out.forceNotNull != nil, "COPY force not null available only in CSV mode")
	refuse(!o.from && out.forceNotNull != nil, "COPY force not null only available using COPY FROM")
	refuse(!out.csv && out.forceNull != nil, "COPY force null available only in CSV mode")
	refuse(!o.from && out.forceNull != nil, "COPY force null only available using COPY FROM")
	refuse(strings.IndexByte(out.null, out.delim) >= 0, "COPY delimiter must not appear in the NULL specification")
	refuse(out.csv && strings.IndexByte(out.null, out.quote) >= 0, "CSV quote character must not appear in the NULL specification")
}

// listed finds the columns of a list, each of which may be there once.
func listed(list []columnName, find func(name string) int) []int {
	var columns []int
	for i, c := range list {
		columns = append(columns, find(c.name))
		if slices.Contains(columns[:i], columns[i]) {
			panic(pgwire.Errorf(pgwire.CodeDuplicateColumn, `column "%s" specified more than once`, c.name))
		}
	}
	return columns
}

// forced says for each column that is copied whether it is on the list of an option.
func forced(list []columnName, option string, columns []string, find func(name string) int) []bool {
	listed(list, find)
	flags := make([]bool, len(columns))
	for _, c := range list {
		at := slices.Index(columns, c.name)
		if at < 0 {
			panic(pgwire.Errorf(pgwire.CodeInvalidColumnReference, `%s column "%s" not referenced by COPY`, option, c.name))
		}
		flags[at] = true
	}
	return flags
}
