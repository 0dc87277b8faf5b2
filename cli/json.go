package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
)

// jsonList prints many objects as JSON without holding them: as one document
// {"schema":1,"KEY":[…],…}, or an object a line.
type jsonList struct {
	w     *bufio.Writer
	key   string
	lines bool
	n     int
}

// jsonList starts a document whose list is called key.
func (a *app) jsonList(w *bufio.Writer, key string) *jsonList { return &jsonList{w: w, key: key} }

// jsonLines starts a stream of one object a line.
func (a *app) jsonLines(w *bufio.Writer) *jsonList { return &jsonList{w: w, lines: true} }

// marshal is json.Marshal without escapes for HTML.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // invariant: a type of ours that JSON cannot hold: a bug
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

func (l *jsonList) head() {
	if l.n == 0 && !l.lines {
		_, _ = l.w.WriteString(`{"schema":1,"` + l.key + `":[`)
	}
}

// add prints an object.
func (l *jsonList) add(v any) error {
	l.head()
	switch {
	case l.lines:
	case l.n > 0:
		_, _ = l.w.WriteString(",\n")
	default:
		_, _ = l.w.WriteString("\n")
	}
	l.n++
	_, err := l.w.Write(marshal(v))
	if l.lines {
		err = l.w.WriteByte('\n')
	}
	return err
}

// end closes the document. more are further members of it, such as "errors"; in
// lines mode they are the last line.
func (l *jsonList) end(more map[string]any) error {
	if l.lines {
		m := map[string]any{"schema": 1}
		for k, v := range more {
			m[k] = v
		}
		return l.add(m)
	}
	l.head()
	if l.n > 0 {
		_ = l.w.WriteByte('\n')
	}
	_ = l.w.WriteByte(']')
	if len(more) > 0 {
		_, _ = l.w.WriteString(",")
		b := marshal(more)
		_, _ = l.w.Write(b[1 : len(b)-1])
	}
	_, err := l.w.WriteString("}\n")
	return err
}
