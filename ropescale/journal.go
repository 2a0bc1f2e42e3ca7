package ropescale

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// journalVersion is the version of the journal's format and of what a seed means: it rises when the algorithms propose
// other candidates for the same seed.
const journalVersion = 7

// header is a journal's first line. Every later line is an entry.
type header struct {
	Version     int         `json:"longrope_study"`
	Rope        Rope        `json:"rope"`
	Base        *Rung       `json:"base,omitempty"`
	Target      int         `json:"target"`
	Stretch     float64     `json:"stretch,omitempty"`
	Readings    []Reading   `json:"readings"`
	Algorithm   string      `json:"algorithm"`
	Seed        uint64      `json:"seed"`
	Budget      int         `json:"budget"`
	Starts      []Candidate `json:"starts,omitempty"`
	Params      Params      `json:"params"`
	ModelDigest string      `json:"model_digest"`
	Fitness     string      `json:"fitness"`
	Texts       []string    `json:"texts"`
}

// entry is a told Trial, or what SetEnding was told.
type entry struct {
	Trial
	ending
}

type ending struct {
	Ending *bool `json:"ending"`
}

func (s *Study) header() ([]byte, error) {
	o := s.opts
	b, err := json.Marshal(header{journalVersion, o.Rope, o.Base, o.Target, o.Stretch, o.Readings, o.Algorithm, o.Seed, o.Budget, o.Starts,
		o.Params, o.ModelDigest, o.Fitness, o.Texts})
	return append(b, '\n'), err
}

// OpenStudy starts a study whose journal is the file at path, or resumes it when the file is there: the state is rebuilt
// by telling again what the journal holds, so a study that was killed goes on exactly as if it had not been. A last
// line that was torn by the kill is cut off. It is an error that names the setting when the journal belongs to a study
// with others, one that names the line when the file is not a journal, and one where another process has it open (on
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
		err = s.resume(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("study %s: %w", path, err)
	}
	s.journal = f
	return s, nil
}

// ReadStudy returns the study that the journal at path holds, as far as it was told, with the settings that the journal names;
// it can be read, and told in memory only.
func ReadStudy(path string) (*Study, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("study: %w", err)
	}
	var h header
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if err := json.Unmarshal(line, &h); err != nil || h.Version == 0 {
		return nil, fmt.Errorf("study %s: not a study's journal; choose another file", path)
	}
	s, err := NewStudy(Options{h.Rope, h.Target, h.Base, h.Stretch, h.Readings, h.Algorithm, h.Seed, h.Budget, h.Starts, h.Params,
		h.ModelDigest, h.Fitness, h.Texts})
	if err != nil {
		return nil, fmt.Errorf("study %s: %w", path, err)
	}
	head, err := s.header()
	if err == nil {
		_, err = s.replay(b, head)
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

// resume replays f and leaves it positioned, and cut, after its last whole line.
func (s *Study) resume(f *os.File) error {
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	head, err := s.header()
	if err != nil {
		return err
	}
	whole, err := s.replay(b, head)
	if err != nil {
		return err
	}
	if err := f.Truncate(int64(whole)); err != nil {
		return err
	}
	if _, err := f.Seek(int64(whole), io.SeekStart); err != nil {
		return err
	}
	if whole == 0 {
		if _, err := f.Write(head); err != nil {
			return err
		}
	}
	return f.Sync()
}

// replay tells the study what journal b holds and returns the length of its whole lines; 0 when not even the header is
// whole, which is then to be written.
func (s *Study) replay(b, head []byte) (whole int, err error) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if !bytes.HasPrefix(head, b) {
			return 0, errors.New("not a study's journal; choose another file")
		}
		return 0, nil
	}
	if err := sameSettings(b[:end], head); err != nil {
		return 0, err
	}
	whole = end + 1
	for line := 2; ; line++ {
		end := bytes.IndexByte(b[whole:], '\n')
		if end < 0 {
			return whole, nil // torn: the kill came between write and newline
		}
		var e entry
		if err := json.Unmarshal(b[whole:whole+end], &e); err != nil {
			return 0, fmt.Errorf("line %d is damaged: %w", line, err)
		}
		if e.Ending != nil {
			s.setEnding(*e.Ending)
		} else if err := s.retell(e.Trial); err != nil {
			return 0, fmt.Errorf("line %d: %w", line, err)
		}
		whole += end + 1
	}
}

// retell settles a trial from the journal after checking that it is the one this study proposes.
func (s *Study) retell(t Trial) error {
	if t.ID < 0 || t.ID >= len(s.trials) || s.trials[t.ID].Candidate != t.Candidate || s.trials[t.ID].Rung.Key() != t.Rung.Key() ||
		s.trials[t.ID].Origin != t.Origin || !slices.Equal(s.trials[t.ID].Readings, t.Readings) {
		return fmt.Errorf("trial %d is not what this program proposes there (another version or platform wrote it); choose another file", t.ID)
	}
	own, err := s.told(t.ID, t.Losses, t.Tokens)
	if err != nil {
		return err
	}
	s.settle(own)
	return nil
}

// sameSettings compares two header lines and names the first setting that differs.
func sameSettings(theirs, ours []byte) error {
	var a, b map[string]json.RawMessage
	if err := json.Unmarshal(theirs, &a); err != nil || a["longrope_study"] == nil {
		return errors.New("line 1: not a study's journal; choose another file")
	}
	if err := json.Unmarshal(ours, &b); err != nil {
		return err
	}
	if v := string(a["longrope_study"]); v != fmt.Sprint(journalVersion) {
		return fmt.Errorf("line 1: it is of version %s of the journal, this program writes version %d; choose another file", short(a["longrope_study"]), journalVersion)
	}
	keys := []string{"rope", "base", "target", "stretch", "algorithm", "seed", "model_digest", "fitness", "texts", "readings", "budget", "starts", "params"}
	for k := range a {
		if k != "longrope_study" && !slices.Contains(keys, k) {
			return fmt.Errorf("line 1: unknown setting %q; choose another file", k)
		}
	}
	for _, k := range keys {
		if !bytes.Equal(a[k], b[k]) {
			return fmt.Errorf("it was started with %s %s, this run has %s; use the same settings or choose another file", k, short(a[k]), short(b[k]))
		}
	}
	return nil
}

// short keeps an error line readable where the setting is a list.
func short(raw json.RawMessage) string {
	switch {
	case raw == nil:
		return "absent"
	case len(raw) > 160:
		return string(raw[:160]) + "…"
	}
	return string(raw)
}

// append writes a told trial, or an ending, to the journal and waits for the disk.
func (s *Study) append(entry any) error {
	if s.journal == nil {
		return nil
	}
	b, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("study: %w", err)
	}
	at, err := s.journal.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("study: %w", err)
	}
	if _, err = s.journal.Write(append(b, '\n')); err == nil {
		err = s.journal.Sync()
	}
	if err != nil { // a full disk: take back what was written, so that the next try starts a line
		s.journal.Truncate(at)
		s.journal.Seek(at, io.SeekStart)
		return fmt.Errorf("study: %w", err)
	}
	return nil
}
