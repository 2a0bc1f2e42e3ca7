package study

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// header is a journal's first line: the options with every default filled in, and as they were
// given.
type header struct {
	Version int `json:"longrope_study"`
	Options
	Given *given `json:"given,omitempty"` // nil in version 7
}

// given are those of the options that have defaults, before these were filled in. A study that was
// started by another version of the program with the same keeps that version's defaults.
type given struct {
	Algorithm string `json:"algorithm"`
	Budget    int    `json:"budget"`
	Params    Params `json:"params"`
}

func (o *Options) given() given { return given{o.Algorithm, o.Budget, o.Params} }

func (s *Study) header() ([]byte, error) {
	g := s.asGiven.given()
	b, err := json.Marshal(header{journalVersion, s.opts, &g})
	return append(b, '\n'), err
}

var errNoJournal = errors.New("not a study's journal; choose another file")

// parseHeader reads the first line of a journal and returns what follows; nil if not even that line
// is whole, so that it is to be written again.
func parseHeader(b []byte) (h *header, rest []byte, err error) {
	first, rest, whole := bytes.Cut(b, []byte("\n"))
	if !whole {
		if n := min(len(first), len(journalKey)); string(first[:n]) != journalKey[:n] {
			return nil, nil, errNoJournal
		}
		return nil, nil, nil
	}
	var version struct {
		Version json.RawMessage `json:"longrope_study"`
	}
	if err := json.Unmarshal(first, &version); err != nil || version.Version == nil {
		return nil, nil, fmt.Errorf("line 1: %w", errNoJournal)
	}
	h = new(header)
	d := json.NewDecoder(bytes.NewReader(first))
	switch string(version.Version) {
	case fmt.Sprint(oldestJournal): // its params have settings that no user could change
	case fmt.Sprint(journalVersion):
		d.DisallowUnknownFields()
	default:
		return nil, nil, fmt.Errorf("line 1: it is of version %s of the journal, this program "+
			"reads %d to %d; "+
			"choose another file", short(version.Version), oldestJournal, journalVersion)
	}
	if err := d.Decode(h); err != nil {
		if field, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); unknown {
			err = fmt.Errorf("unknown setting %s", field)
		}
		return nil, nil, fmt.Errorf("line 1: %w; choose another file", err)
	}
	if h.Version == journalVersion && h.Given == nil {
		return nil, nil, fmt.Errorf("line 1: %w", errNoJournal)
	}
	return h, rest, nil
}

// startedAs returns s with the defaults that held when the study of header h was started. It is an
// error that names the first setting that differs.
func (s *Study) startedAs(h *header) (*Study, error) {
	opts := s.asGiven
	switch ours := opts.given(); {
	case h.Given == nil: // it is not known what was given
		opts.Budget = cmp.Or(opts.Budget, h.Budget)
		p, q := &opts.Params, h.Params
		if p.StartWindows == nil {
			p.StartWindows = q.StartWindows
		}
		p.Attention = cmp.Or(p.Attention, q.Attention)
		p.Population, p.Knots = cmp.Or(p.Population, q.Population), cmp.Or(p.Knots, q.Knots)
	case reflect.DeepEqual(ours, *h.Given):
		opts.Algorithm, opts.Budget, opts.Params = h.Algorithm, h.Budget, h.Params
	}
	again, err := New(opts)
	if err != nil {
		return nil, err
	}
	again.asGiven = s.asGiven
	return again, sameSettings(h.Options, again.opts)
}

// sameSettings names the first setting in which two options differ.
func sameSettings(theirs, ours Options) error {
	a, b := reflect.ValueOf(theirs), reflect.ValueOf(ours)
	for i := range a.NumField() {
		field := a.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		x, err := json.Marshal(a.Field(i).Interface())
		if err != nil {
			return err
		}
		y, err := json.Marshal(b.Field(i).Interface())
		if err != nil {
			return err
		}
		if name, opt, _ := strings.Cut(field.Tag.Get("json"), ","); !bytes.Equal(x, y) {
			if opt == "omitempty" {
				x, y = orAbsent(x), orAbsent(y)
			}
			return fmt.Errorf("it was started with %s %s, this run has %s; "+
				"use the same settings or choose another file", name, short(x), short(y))
		}
	}
	return nil
}

func orAbsent(raw []byte) []byte {
	if s := string(raw); s == "null" || s == "0" {
		return []byte("absent")
	}
	return raw
}

// short keeps an error line readable where the setting is a list.
func short(raw []byte) string {
	if len(raw) > 160 {
		return string(raw[:160]) + "…"
	}
	return string(raw)
}
