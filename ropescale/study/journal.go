package study

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/longrope/longrope/ropescale"
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
	Generation int             `json:"generation,omitempty"`
	Origin     string          `json:"origin,omitempty"`
	Parents    []int           `json:"parents,omitempty"`
	Rung       *ropescale.Rung `json:"rung,omitempty"` // absolute
	Readings   []int           `json:"readings,omitempty"`
	Candidate  int             `json:"candidate,omitempty"`
}

// OpenStudy starts a study whose journal is the file at path, or resumes it when the file is there:
// the state is rebuilt by replaying the journal, so a study that was killed resumes exactly as if
// it had not been. Where another version of the program proposed other candidates than this one
// would, theirs are taken, and Diverged says so. A last line that was torn by the kill is cut off.
// It is an error that names the setting when the journal belongs to a study with others, one that
// names the line when the file is not a journal, and one where another process has it open (on
// systems with flock; elsewhere do not do that). Call Close at the end.
func Open(path string, opts Options) (*Study, error) {
	s, err := New(opts)
	if err != nil {
		return nil, err
	}
	if err := regular(path); err != nil {
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

// Rewind cuts the journal at path off before the line with a trial's losses, so that the study
// resumes as if it had been killed there. The study must be closed.
func Rewind(path string, trial int) error {
	if err := regular(path); err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("study: %w", err)
	}
	at := 0
	for i, text := range bytes.SplitAfter(b, []byte("\n")) {
		var l line
		if i > 0 && json.Unmarshal(text, &l) == nil && l.toldLine != nil && l.ID != nil &&
			*l.ID == trial {
			return os.Truncate(path, int64(at))
		}
		at += len(text)
	}
	return fmt.Errorf("study %s: trial %d is not in the journal", path, trial)
}

// regular refuses what is no file of the usual kind before it is opened: a pipe would wait. It is
// atomicfile's, which this package does not import.
func regular(path string) error {
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("study %s: not a regular file; choose another file", path)
	}
	return nil
}

// ReadStudy returns the study that the journal at path holds, as far as it was told, with the
// settings that the journal names; it can be read, and told in memory only.
func Read(path string) (*Study, error) {
	if err := regular(path); err != nil {
		return nil, err
	}
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
	s, err := New(h.Options)
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
			slices.Equal(x.Parents, y.Parents) && slices.Equal(x.Readings, y.Readings) &&
			sameBase(x.Base, y.Base)
	})
}

func sameBase(a, b *ropescale.Rung) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Key() == b.Key()
}

// checkBatch refuses candidates that no version of the program can have proposed.
func (s *Study) checkBatch(batch []Candidate) error {
	if len(batch) == 0 || len(batch) > 1<<20 {
		return fmt.Errorf("it has %d candidates", len(batch))
	}
	for i, c := range batch {
		rungs := []ropescale.Rung{c.Rung}
		if c.Base != nil {
			rungs = append(rungs, *c.Base)
		}
		for _, g := range rungs {
			if err := g.Check(s.opts.Rope.Pairs()); err != nil {
				return fmt.Errorf("candidate %d: %w", i, err)
			}
			if g.Length != s.opts.Target || g.StartWindow < 0 || g.StartWindow >= g.Length {
				return fmt.Errorf("candidate %d: length is %d and start_window %d, "+
					"for a target of %d", i, g.Length, g.StartWindow, s.opts.Target)
			}
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
