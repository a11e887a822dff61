package sql

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// A jsonb is written as jsonb_out does it: keys by length and then byte by byte, the last one of those that are equal,
// numbers in full. No tree is made of the text: it is read once to put the members of its objects in order, and
// once to write it.

// A jsonWriter writes a valid JSON text as a jsonb.
type jsonWriter struct {
	text    string
	at      int          // what is read next
	objects []jsonObject // in the order in which they begin
	members []jsonMember // of one object after the other, each in order
	open    []jsonMember // of the objects that have not ended
	out     bytes.Buffer
	pace    *pacer
}

// A jsonObject is where an object begins and ends in the text, and which members are its own.
type jsonObject struct{ start, end, first, count int32 }

// A jsonMember is a member of an object, and where its value begins.
type jsonMember struct {
	key   string
	value int32
}

// jsonSize is about what a jsonWriter takes for a text beside what it writes, in bytes.
func jsonSize(text string) int {
	const memberSize, objectSize = 24, 16
	return 3*memberSize*strings.Count(text, ":") + 2*objectSize*strings.Count(text, "{")
}

// canonicalJSON writes a valid JSON text as a jsonb.
func canonicalJSON(text string, pace *pacer) (string, error) {
	w := &jsonWriter{text: text, pace: pace}
	if err := w.order(); err != nil {
		return "", err
	}
	w.at = 0
	if err := w.write(); err != nil {
		return "", err
	}
	return w.out.String(), nil
}

// next skips what stands between tokens, and returns the byte that the next one begins with.
func (w *jsonWriter) next() byte {
	for strings.IndexByte(" \t\r\n,:", w.text[w.at]) >= 0 {
		w.at++
	}
	return w.text[w.at]
}

// token reads a string, a number or a word.
func (w *jsonWriter) token() string {
	start := w.at
	if w.text[start] != '"' {
		for w.at < len(w.text) && strings.IndexByte(" \t\r\n,:]}", w.text[w.at]) < 0 {
			w.at++
		}
		return w.text[start:w.at]
	}
	for w.at++; w.text[w.at] != '"'; w.at++ {
		if w.text[w.at] == '\\' {
			w.at++
		}
	}
	w.at++
	return w.text[start:w.at]
}

// order finds the members of all objects in the value that comes next.
func (w *jsonWriter) order() error {
	if err := w.pace.step(paceValue); err != nil {
		return err
	}
	switch w.next() {
	case '{':
		return w.orderObject()
	case '[':
		for w.at++; w.next() != ']'; {
			if err := w.order(); err != nil {
				return err
			}
		}
		w.at++
	default:
		return w.pace.step(len(w.token()))
	}
	return nil
}

// paceValue is how many steps a value counts, beside its length.
const paceValue = 16

func (w *jsonWriter) orderObject() error {
	object, first := len(w.objects), len(w.open)
	w.objects = append(w.objects, jsonObject{start: int32(w.at)})
	for w.at++; w.next() != '}'; {
		key, err := unquoteJSON(w.token())
		if err != nil {
			return err
		}
		w.next()
		w.open = append(w.open, jsonMember{key, int32(w.at)})
		if err := w.order(); err != nil {
			return err
		}
	}
	w.at++
	members := w.open[first:]
	w.open = w.open[:first]
	if err := w.sort(members); err != nil {
		return err
	}
	o := &w.objects[object]
	o.end, o.first = int32(w.at), int32(len(w.members))
	for i, m := range members {
		if i+1 == len(members) || members[i+1].key != m.key { // the last of those that are equal
			w.members = append(w.members, m)
		}
	}
	o.count = int32(len(w.members)) - o.first
	return nil
}

func (w *jsonWriter) sort(members []jsonMember) error {
	return sortPaced(w.pace, members, func(k, l jsonMember) int {
		return cmp.Or(cmp.Compare(len(k.key), len(l.key)), strings.Compare(k.key, l.key))
	})
}

// write writes the value that comes next.
func (w *jsonWriter) write() error {
	if w.out.Len() > maxTextLen {
		return textTooLong()
	}
	if err := w.pace.step(paceValue); err != nil {
		return err
	}
	switch w.next() {
	case '{':
		return w.writeObject()
	case '[':
		return w.writeArray()
	case '"':
		text, err := unquoteJSON(w.token())
		if err == nil {
			err = w.writeString(text)
		}
		return err
	case 't', 'f', 'n':
		w.out.WriteString(w.token())
		return nil
	}
	return w.writeNumber(w.token())
}

func (w *jsonWriter) writeArray() error {
	w.out.WriteByte('[')
	w.at++
	for between := ""; w.next() != ']'; between = ", " {
		w.out.WriteString(between)
		if err := w.write(); err != nil {
			return err
		}
	}
	w.at++
	w.out.WriteByte(']')
	return nil
}

func (w *jsonWriter) writeObject() error {
	i, _ := slices.BinarySearchFunc(w.objects, int32(w.at), func(o jsonObject, at int32) int {
		return cmp.Compare(o.start, at)
	})
	o := w.objects[i]
	w.out.WriteByte('{')
	for i, m := range w.members[o.first:][:o.count] {
		if i > 0 {
			w.out.WriteString(", ")
		}
		if err := w.writeString(m.key); err != nil {
			return err
		}
		w.out.WriteString(": ")
		w.at = int(m.value)
		if err := w.write(); err != nil {
			return err
		}
	}
	w.at = int(o.end)
	w.out.WriteByte('}')
	return nil
}

func (w *jsonWriter) writeString(s string) error {
	if err := w.pace.step(len(s)); err != nil {
		return err
	}
	return writeJSONString(&w.out, s)
}

// writeNumber writes a number in full: what has no exponent is as it should be, but for the sign of zero.
func (w *jsonWriter) writeNumber(s string) error {
	if len(s) <= maxDecimalDigits && s[0] != '-' && !strings.ContainsAny(s, "eE") {
		w.out.WriteString(s)
		return nil
	}
	if err := w.pace.step(len(s)); err != nil {
		return err
	}
	d, ok := parseDecimal(s)
	if !ok {
		return pgwire.Errorf(pgwire.CodeNumericValueOutOfRange, "value overflows numeric format")
	}
	w.out.WriteString(d.String())
	return nil
}

// unquoteJSON is the text of a JSON string.
func unquoteJSON(quoted string) (string, error) {
	if strings.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], nil
	}
	var s string
	err := json.Unmarshal(bytesOf(quoted), &s)
	return s, err
}
