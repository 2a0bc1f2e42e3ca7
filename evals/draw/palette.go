package draw

import (
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/longrope/longrope/ropescale"
)

// shade is one colour: in figures, on a light page and on a dark one.
type shade struct{ figure, light, dark uint32 }

// methodShades are the colours of ropescale.Methods, in their order, and some for methods to come,
// which are added at its end. The first of figures are Okabe and Ito's, which stay apart for
// colour-blind readers.
var methodShades = []shade{
	{0xe69f00, 0xc98500, 0xe8a93a},
	{0x56b4e9, 0x2a8fc9, 0x63b8ea},
	{0xcc79a7, 0xb35f92, 0xd68fbb},
	{0x009e73, 0x00875f, 0x2fbd8f},
	{0x332288, 0x4a3aa8, 0x9a8cf0},
	{0x882255, 0x93275f, 0xd9709f},
	{0x44aa99, 0x2f8f80, 0x6fd0c0},
	{0xd55e00, 0xd1480a, 0xff7a3d},
	{0x8a8a8a, 0x8c8a84, 0x8c8a84},
	{0x999933, 0x8a8a1f, 0xc9c94f},
	{0x661100, 0x8a2a10, 0xd98a70},
	{0x6699cc, 0x4a7fb5, 0x8fbfea},
}

// otherColors are those of curves in figures that are no method's.
var otherColors = []uint32{
	0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x332288, 0x882255,
	0x56b4e9,
}

// methodIndex is the place of a method, by name or label, in ropescale.Methods; -1 if it is none.
// The stock model runs with its own RoPE.
func methodIndex(method string) int {
	if method == "stock" {
		method = "own"
	}
	return slices.IndexFunc(ropescale.Methods(), func(m ropescale.Method) bool {
		return m.Name == method || m.Label == method
	})
}

// styleOf gives a method the same look in every figure; index chooses the colour of what is none.
func styleOf(method string, index int) style {
	s := style{name: method, width: 1.5, color: rgb(otherColors[index%len(otherColors)])}
	if i := methodIndex(method); i >= 0 {
		s.color = rgb(methodShades[i].figure)
	}
	if method == "longrope" {
		s.width = 2.4
	}
	return s
}

// methodStyles are the page's style sheet for methods: a variable and a class for each.
func methodStyles() template.CSS {
	var light, dark, classes strings.Builder
	for i, m := range ropescale.Methods() {
		fmt.Fprintf(&light, " --%s: #%06x;", m.Name, methodShades[i].light)
		fmt.Fprintf(&dark, " --%s: #%06x;", m.Name, methodShades[i].dark)
		fmt.Fprintf(&classes, ".%s { color: var(--%[1]s) } ", m.Name)
	}
	return template.CSS(fmt.Sprintf(
		":root {%s }\n@media (prefers-color-scheme: dark) { :root {%s } }\n%s",
		&light, &dark, strings.TrimSpace(classes.String())))
}
