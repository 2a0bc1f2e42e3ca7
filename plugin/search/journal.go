package search

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/workers"
	"github.com/longrope/longrope/ropescale/study"
)

// discard removes a journal and the losses on held-out text that belong to it, whether or not the
// journal itself is there, and nothing else that somebody named by mistake.
func discard(path string) error {
	journal, err := isJournal(path)
	if err != nil {
		return err
	}
	if journal {
		if err := os.Remove(path); err != nil {
			return err
		}
	} else if _, err := os.Lstat(path); err == nil {
		return nil // another file: OpenStudy refuses it
	}
	if err := os.Remove(heldOutFile(path)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// isJournal reports whether there is a study's journal at path.
func isJournal(path string) (bool, error) {
	f, err := atomicfile.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, len(`{"longrope_study"`))
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	return string(head[:n]) == `{"longrope_study"`, nil
}

// disown takes the journals back to before the first losses of a worker that was found to give
// wrong ones; other errors it returns as they are.
func (s *ladderSearch) disown(err error) error {
	var d *workers.DisownedError
	if !errors.As(err, &d) {
		return err
	}
	for _, use := range d.Uses {
		i := slices.IndexFunc(s.rungs, func(r *rungSearch) bool {
			return r.judge == s.pool.sent[use.Search]
		})
		r := s.rungs[i]
		r.close()
		if cut := study.Rewind(r.journal, use.Trial); cut != nil {
			return fmt.Errorf("%w; the journal cannot be taken back to before that: %w; %s "+
				"discards it", err, cut, s.o.Called.Of("Fresh"))
		}
		err = fmt.Errorf("%w; %s is taken back to before trial %d", err, r.journal, use.Trial)
	}
	return fmt.Errorf("%w; stop that worker, and the same command resumes", err)
}

// studyDigest identifies the study of a journal: the digest of its first line, which holds the
// model's digest, the texts, the seed and every other setting. It is "" where there is no journal.
func studyDigest(journal string) (string, error) {
	b, err := atomicfile.Read(journal)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	header, _, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return "", nil
	}
	return digest(string(header)), nil
}

func digest(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }

// textID is a text in the study's record: with other contents it is another study.
func textID(t evals.Text) string {
	return fmt.Sprintf("%s (%s, %d bytes)", t.Name, digest(t.Body)[:len("sha256:")+12], len(t.Body))
}

// Journals are the journals that a search left next to the factors that it wrote, or the journal
// itself.
func Journals(path string) ([]string, error) {
	if IsStudy(path) {
		return []string{path}, nil
	}
	var paths []string
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		rest, ok := strings.CutPrefix(name, filepath.Base(path))
		if ok && IsStudy(name) && (rest == ".study" || rest[0] == '-') {
			paths = append(paths, filepath.Join(filepath.Dir(path), name))
		}
	}
	return paths, nil
}

// IsStudy reports whether a file is a study's journal by its name.
func IsStudy(path string) bool { return strings.EqualFold(filepath.Ext(path), ".study") }
