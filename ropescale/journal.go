package ropescale

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
)

// journalVersion is the version of the journal's format. A journal is the record of a study: a
// header and then lines, in the order in which things happened. It does not rise when the
// algorithms propose other candidates for the same seed: a study resumes from the proposals that
// are stored.
//
// Version 7 stored a told trial whole, and no batch. Such journals are resumed, and continued with
// lines of this version.
const (
	journalVersion = 8
	oldestJournal  = 7
)

// journalKey begins every journal.
const journalKey = `{"longrope_study":`

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

// line is one line of a journal after the first: a batch that was proposed, a trial that was told,
// or what SetEnding was told.
type line struct {
	*batchLine
	*toldLine
	Ending *bool `json:"ending,omitempty"`
}

// batchLine is written with the first tell of its batch.
type batchLine struct {
	Batch      *int        `json:"batch"`
	Candidates []Candidate `json:"candidates"`
}

type toldLine struct {
	ID     *int   `json:"id"`
	Losses Losses `json:"losses"`
	Tokens int    `json:"tokens"`
	// Version 7 stored these in addition.
	Generation int    `json:"generation,omitempty"`
	Origin     string `json:"origin,omitempty"`
	Parents    []int  `json:"parents,omitempty"`
	Rung       *Rung  `json:"rung,omitempty"` // absolute
	Readings   []int  `json:"readings,omitempty"`
	Candidate  int    `json:"candidate,omitempty"`
}

// OpenStudy starts a study whose journal is the file at path, or resumes it when the file is there:
// the state is rebuilt by replaying the journal, so a study that was killed resumes exactly as if
// it had not been. Where another version of the program proposed other candidates than this one
// would, theirs are taken, and Diverged says so. A last line that was torn by the kill is cut off.
// It is an error that names the setting when the journal belongs to a study with others, one that
// names the line when the file is not a journal, and one where another process has it open (on
// systems with flock; elsewhere do not do that). Call Close at the end.
func OpenStudy(path string, opts Options) (*Study, error) {
	s, err := NewStudy(opts)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("study: %w", err)
	}
	err = lock(f)
	if err == nil {
		s, err = s.resume(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("study %s: %w", path, err)
	}
	s.journal = f
	return s, nil
}

// ReadStudy returns the study that the journal at path holds, as far as it was told, with the
// settings that the journal names; it can be read, and told in memory only.
func ReadStudy(path string) (*Study, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("study: %w", err)
	}
	h, rest, err := parseHeader(b)
	if err == nil && h == nil {
		err = errNoJournal
	}
	if err != nil {
		return nil, fmt.Errorf("study %s: %w", path, err)
	}
	s, err := NewStudy(h.Options)
	if err == nil {
		_, err = s.replay(rest)
	}
	if err != nil {
		return nil, fmt.Errorf("study %s: %w", path, err)
	}
	return s, nil
}

// Close closes the journal. The study can be read afterwards, not told.
func (s *Study) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil {
		return nil
	}
	return s.journal.Close()
}

// resume returns the study that f holds, if s is the same; f is left positioned, and cut, after its
// last whole line.
func (s *Study) resume(f *os.File) (*Study, error) {
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	h, rest, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	whole := 0
	if h != nil {
		if s, err = s.startedAs(h); err != nil {
			return nil, err
		}
		n, err := s.replay(rest)
		if err != nil {
			return nil, err
		}
		whole = len(b) - len(rest) + n
	}
	if err := f.Truncate(int64(whole)); err != nil {
		return nil, err
	}
	if _, err := f.Seek(int64(whole), io.SeekStart); err != nil {
		return nil, err
	}
	if h == nil {
		head, err := s.header()
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(head); err != nil {
			return nil, err
		}
	}
	return s, f.Sync()
}

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
	again, err := NewStudy(opts)
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

// replay has the study happen again as the lines of a journal say, and returns their length without
// what follows the last whole line.
func (s *Study) replay(b []byte) (whole int, err error) {
	var lines []line
	for number := 2; ; number++ {
		end := bytes.IndexByte(b[whole:], '\n')
		if end < 0 {
			break // torn: the kill came between write and newline
		}
		var l line
		if err := json.Unmarshal(b[whole:whole+end], &l); err != nil {
			return 0, fmt.Errorf("line %d is damaged: %w", number, err)
		}
		lines = append(lines, l)
		whole += end + 1
	}
	var ids map[int]int // of the current batch, where the journal has others
	for i, l := range lines {
		switch {
		case l.batchLine != nil:
			ids, err = nil, s.rebatch(*l.Batch, l.Candidates)
			s.stored = true
		case l.toldLine != nil:
			if l.Rung != nil && s.untouched() {
				ids, err = s.oldBatch(lines[i:])
			}
			if err == nil {
				err = s.retell(*l.toldLine, ids)
			}
		case l.Ending != nil:
			s.setEnding(*l.Ending)
		default:
			err = errors.New("neither a batch, nor a told trial, nor an ending")
		}
		if err != nil {
			return 0, fmt.Errorf("line %d: %w", i+2, err)
		}
	}
	return whole, nil
}

// UnmarshalJSON distinguishes the kinds of lines.
func (l *line) UnmarshalJSON(b []byte) error {
	var kind struct {
		Batch, ID, Ending json.RawMessage
	}
	if err := json.Unmarshal(b, &kind); err != nil {
		return err
	}
	switch {
	case kind.Batch != nil:
		l.batchLine = new(batchLine)
		return json.Unmarshal(b, l.batchLine)
	case kind.ID != nil:
		l.toldLine = new(toldLine)
		return json.Unmarshal(b, l.toldLine)
	}
	if kind.Ending == nil {
		return nil // replay refuses it
	}
	return json.Unmarshal(kind.Ending, &l.Ending)
}

// rebatch makes what the journal says was proposed the current batch.
func (s *Study) rebatch(number int, batch []Candidate) error {
	if s.pending > 0 && number == s.number-1 && same(s.proposed, batch) {
		return nil
	}
	if err := s.checkBatch(batch); err != nil {
		return fmt.Errorf("batch %d: %w", number, err)
	}
	if !s.untouched() {
		return fmt.Errorf("batch %d: the one before it was not told to its end; "+
			"choose another file", number)
	}
	s.replace(batch)
	return nil
}

// same says whether two batches are the same candidates, to the last bit.
func same(a, b []Candidate) bool {
	return slices.EqualFunc(a, b, func(x, y Candidate) bool {
		return x.Rung.Key() == y.Rung.Key() && x.Origin == y.Origin &&
			slices.Equal(x.Parents, y.Parents) && slices.Equal(x.Readings, y.Readings)
	})
}

// checkBatch refuses candidates that no version of the program can have proposed.
func (s *Study) checkBatch(batch []Candidate) error {
	if len(batch) == 0 || len(batch) > 1<<20 {
		return fmt.Errorf("it has %d candidates", len(batch))
	}
	for i, c := range batch {
		g := c.Rung
		if err := g.check(s.opts.Rope.Pairs()); err != nil {
			return fmt.Errorf("candidate %d: %w", i, err)
		}
		if g.Length != s.opts.Target || g.StartWindow < 0 || g.StartWindow >= g.Length {
			return fmt.Errorf("candidate %d: length is %d and start_window %d, for a target of %d",
				i, g.Length, g.StartWindow, s.opts.Target)
		}
		for _, k := range c.Readings {
			if k < 0 || k >= len(s.opts.Readings) {
				return fmt.Errorf("candidate %d: there is no reading %d", i, k)
			}
		}
		for _, p := range c.Parents {
			if p < 0 || p >= len(s.trials) {
				return fmt.Errorf("candidate %d: there is no candidate %d", i, p)
			}
		}
	}
	return nil
}

// retell settles a trial from the journal; ids are those of trials that have another id there.
func (s *Study) retell(l toldLine, ids map[int]int) error {
	id, mapped := ids[*l.ID]
	switch {
	case !mapped && l.Rung != nil && !s.proposes(l):
		return fmt.Errorf("trial %d is not of the batch at hand; choose another file", *l.ID)
	case !mapped:
		id = *l.ID
	}
	t, err := s.told(id, l.Losses, l.Tokens)
	if err == nil {
		s.settle(t)
	}
	return err
}

// record appends a told trial to the journal, after its batch if that is not there.
func (s *Study) record(t Trial) error {
	told := line{toldLine: &toldLine{ID: &t.ID, Losses: t.Losses, Tokens: t.Tokens}}
	if s.stored {
		return s.append(told)
	}
	number := s.number - 1
	if err := s.append(line{batchLine: &batchLine{&number, s.proposed}}, told); err != nil {
		return err
	}
	s.stored = s.journal != nil
	return nil
}

// append writes lines to the journal and waits for the disk.
func (s *Study) append(lines ...line) error {
	if s.journal == nil {
		return nil
	}
	var b bytes.Buffer
	for _, l := range lines {
		if err := json.NewEncoder(&b).Encode(l); err != nil {
			return fmt.Errorf("study: %w", err)
		}
	}
	at, err := s.journal.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("study: %w", err)
	}
	if _, err = s.journal.Write(b.Bytes()); err == nil {
		err = s.journal.Sync()
	}
	if err != nil { // a full disk: take back what was written, so that the next try starts a line
		s.journal.Truncate(at)
		s.journal.Seek(at, io.SeekStart)
		return fmt.Errorf("study: %w", err)
	}
	return nil
}
