package hf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale/jsontext"
)

// maxConfig bounds the JSON files of a checkpoint that are read whole. Multimodal ones have some
// hundred kilobytes.
const maxConfig = 16 << 20

// jsonDoc is a JSON text that is edited in place: what is not edited keeps its bytes, order and
// white space.
type jsonDoc struct {
	path string
	text []byte
	// valid is the text with Python's NaN and Infinity, which JSON has not, as zeros of the same
	// length.
	valid []byte
	top   []member
}

// member is one key of an object, by offsets in the text.
type member struct {
	key            string
	key0, key1     int // the key with its quotes
	value0, value1 int
}

// parseJSON takes a text whose top is an object.
func parseJSON(path string, text []byte) (*jsonDoc, error) {
	d := &jsonDoc{path: path, text: text, valid: finite(text)}
	var err error
	if d.top, err = d.object(0); err != nil {
		return nil, err
	}
	return d, nil
}

// finite replaces NaN, Infinity and -Infinity outside of strings by as many bytes of a JSON number.
func finite(text []byte) []byte {
	if !bytes.Contains(text, []byte("NaN")) && !bytes.Contains(text, []byte("Infinity")) {
		return text
	}
	b := slices.Clone(text)
	for i := 0; i < len(b); i++ {
		if b[i] == '"' {
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			continue
		}
		for _, word := range []string{"NaN", "Infinity"} {
			if bytes.HasPrefix(b[i:], []byte(word)) {
				copy(b[i:], "0"+strings.Repeat(" ", len(word)-1))
			}
		}
	}
	return b
}

// object reads the members of the object that begins at or, after white space, behind at. At the
// top nothing may follow.
func (d *jsonDoc) object(at int) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(d.valid[at:]))
	fail := func(err error) ([]member, error) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		line := 1 + bytes.Count(d.text[:min(at+int(dec.InputOffset()), len(d.text))], []byte("\n"))
		return nil, fmt.Errorf("%s: line %d: %w", d.path, line, err)
	}
	token, err := dec.Token()
	if err != nil {
		return fail(err)
	}
	if token != json.Delim('{') {
		return fail(errors.New("an object is wanted, in braces"))
	}
	end := at + int(dec.InputOffset())
	var members []member
	seen := make(map[string]bool)
	for dec.More() {
		m := member{key0: end + skip(d.valid[end:], " \t\r\n,")}
		token, err := dec.Token()
		if err != nil {
			return fail(err)
		}
		// the key of an object is a string
		m.key, m.key1 = token.(string), at+int(dec.InputOffset())
		if seen[m.key] {
			return fail(fmt.Errorf("the key %q occurs twice", gguf.Clip(m.key)))
		}
		seen[m.key] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fail(err)
		}
		end = at + int(dec.InputOffset())
		m.value0, m.value1 = end-len(raw), end
		members = append(members, m)
	}
	if _, err := dec.Token(); err != nil {
		return fail(err)
	}
	if at == 0 {
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return fail(errors.New("something follows the object"))
		}
	}
	return members, nil
}

func skip(b []byte, set string) int { return len(b) - len(bytes.TrimLeft(b, set)) }

func find(members []member, key string) (member, bool) {
	i := slices.IndexFunc(members, func(m member) bool { return m.key == key })
	if i < 0 {
		return member{}, false
	}
	return members[i], true
}

// decode reads the value of a key into v; false when it is missing or null.
func (d *jsonDoc) decode(members []member, key string, v any) (bool, error) {
	m, ok := find(members, key)
	if !ok || string(d.raw(m)) == "null" {
		return false, nil
	}
	valid := d.valid[m.value0:m.value1]
	if !bytes.Equal(valid, d.raw(m)) {
		return false, fmt.Errorf("%s: %s: NaN or Infinity, where a finite number is wanted", d.path,
			d.keyOfNaN(m))
	}
	if err := json.Unmarshal(valid, v); err != nil {
		return false, fmt.Errorf("%s: %s: %w", d.path, key, jsontext.Plain(err))
	}
	return true, nil
}

// keyOfNaN is the key, with the keys of the objects around it, of a value that has NaN or Infinity.
func (d *jsonDoc) keyOfNaN(m member) string {
	members, err := d.object(m.value0)
	if err != nil {
		return m.key
	}
	for _, sub := range members {
		if !bytes.Equal(d.valid[sub.value0:sub.value1], d.raw(sub)) {
			return m.key + "." + d.keyOfNaN(sub)
		}
	}
	return m.key
}

// sub gives the members of the object that is the value of a key; nil when it is missing or null.
func (d *jsonDoc) sub(members []member, key string) ([]member, error) {
	m, ok := find(members, key)
	if !ok || string(d.raw(m)) == "null" {
		return nil, nil
	}
	sub, err := d.object(m.value0)
	if sub == nil && err == nil {
		sub = []member{} // an empty object is there
	}
	return sub, err
}

// raw is a value as it stands in the text.
func (d *jsonDoc) raw(m member) []byte { return d.text[m.value0:m.value1] }

// jsonEdit collects changes to one object of a document.
type jsonEdit struct {
	d       *jsonDoc
	members []member
	after   string // new keys go behind this one, or behind the first where it is missing
	splices []splice
}

type splice struct {
	from, to int
	text     string
}

// set gives a key this value: in place when it is there, else behind the anchor, written as the
// anchor is.
func (e *jsonEdit) set(key, value string) {
	if m, ok := find(e.members, key); ok {
		e.splices = append(e.splices, splice{m.value0, m.value1, value})
		return
	}
	m := e.anchor()
	name, _ := json.Marshal(key)
	e.splices = append(e.splices, splice{
		m.value1, m.value1,
		"," + e.space(m) + string(name) + string(e.d.text[m.key1:m.value0]) + value,
	})
}

// anchor is the member that new keys go behind. The object has one: checkpoints are opened with
// this checked.
func (e *jsonEdit) anchor() member {
	if m, ok := find(e.members, e.after); ok {
		return m
	}
	return e.members[0]
}

// space is the white space in front of a key.
func (e *jsonEdit) space(m member) string {
	before := e.d.text[:m.key0]
	return string(before[len(bytes.TrimRight(before, " \t\r\n")):])
}

// indent is the anchor's, "" with false when the object is written on one line.
func (e *jsonEdit) indent() (string, bool) {
	m := e.anchor()
	s := e.space(m)
	i := strings.LastIndexByte(s, '\n')
	if i < 0 {
		return "", false
	}
	return s[i+1:], true
}

// remove takes a key out that set put behind another.
func (e *jsonEdit) remove(key string) {
	i := slices.IndexFunc(e.members, func(m member) bool { return m.key == key })
	switch {
	case i > 0:
		e.splices = append(e.splices, splice{e.members[i-1].value1, e.members[i].value1, ""})
	case i == 0 && len(e.members) > 1:
		e.splices = append(e.splices, splice{e.members[0].key0, e.members[1].key0, ""})
	case i == 0:
		e.splices = append(e.splices, splice{e.members[0].key0, e.members[0].value1, ""})
	}
}

// apply gives the changed document.
func (e *jsonEdit) apply() (*jsonDoc, error) {
	sort.SliceStable(e.splices,
		func(i, j int) bool { return e.splices[i].from < e.splices[j].from })
	var b []byte
	at := 0
	for _, s := range e.splices {
		b = append(append(b, e.d.text[at:s.from]...), s.text...)
		at = s.to
	}
	return parseJSON(e.d.path, append(b, e.d.text[at:]...))
}
