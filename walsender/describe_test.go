package walsender

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// describe prints a server's message in one line.
func describe(msg pgproto3.BackendMessage) string {
	switch m := msg.(type) {
	case *pgproto3.RowDescription:
		var cols []string
		for _, f := range m.Fields {
			cols = append(cols, fmt.Sprintf("%s:%d", f.Name, f.DataTypeOID))
		}
		return "T " + strings.Join(cols, " ")
	case *pgproto3.DataRow:
		var values []string
		for _, v := range m.Values {
			if v == nil {
				values = append(values, "NULL")
			} else {
				values = append(values, fmt.Sprintf("%q", v))
			}
		}
		return "D " + strings.Join(values, " ")
	case *pgproto3.CommandComplete:
		return "C " + string(m.CommandTag)
	case *pgproto3.ReadyForQuery:
		return "Z " + string(m.TxStatus)
	case *pgproto3.ErrorResponse:
		line := fmt.Sprintf("E %s %s %s", m.Severity, m.Code, m.Message)
		if m.Detail != "" {
			line += " DETAIL " + m.Detail
		}
		return line
	case *pgproto3.CopyBothResponse:
		return "W"
	case *pgproto3.CopyOutResponse:
		return "H"
	case *pgproto3.CopyDone:
		return "c"
	case *pgproto3.CopyData:
		return fmt.Sprintf("d %c %d", m.Data[0], len(m.Data))
	default:
		return fmt.Sprintf("%T", msg)
	}
}
