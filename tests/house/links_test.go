package house

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

var (
	relativeLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	notInAnchor  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are what a link within a Markdown text may point to, as GitHub names its headings.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, line := range strings.Split(text, "\n") {
		if title := strings.TrimLeft(line, "#"); title != line && strings.HasPrefix(title, " ") {
			title = notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			all[strings.ReplaceAll(title, " ", "-")] = true
		}
	}
	return all
}

// Files, images and headings that Markdown links to are there.
func TestLinks(t *testing.T) {
	links := 0
	for _, name := range sources(t) {
		if language(name) != "md" {
			continue
		}
		text := code.ReplaceAllString(read(t, name), "")
		for _, m := range relativeLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			_, err := os.Stat(filepath.Join(root, filepath.FromSlash(target)))
			if assert.NoError(t, err, "%s links %s", name, m[1]) && anchor != "" {
				assert.True(t, anchors(read(t, target))[anchor],
					"%s links %s: no such heading", name, m[1])
			}
		}
	}
	assert.Greater(t, links, 20)
}
