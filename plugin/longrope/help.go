package longrope

import (
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is the width of the help in columns.
const helpWidth = 100

// rareFlag marks a flag that the help lists at its end.
const rareFlag = "longrope_rare"

// rarely puts flags of a command into the group at the end of its help.
func rarely(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.Flags().SetAnnotation(name, rareFlag, nil); err != nil {
			panic(err) // a flag that is not defined: every test of the command finds it
		}
	}
}

// fitHelp has the help of a command fit helpWidth, and list rare flags by themselves.
func fitHelp(cmd *cobra.Command) {
	cmd.Long = fill(cmd.Long)
	cobra.AddTemplateFunc("longropeFlags", flagHelp)
	const standard = "Flags:\n{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}"
	cmd.SetUsageTemplate(strings.Replace(cmd.UsageTemplate(), standard, "{{longropeFlags .}}", 1))
}

// fill breaks the paragraphs of a text into lines of helpWidth; indented lines stay as they are.
func fill(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		if strings.HasPrefix(p, " ") {
			continue
		}
		var b strings.Builder
		column := 0
		for _, word := range strings.Fields(p) {
			width := utf8.RuneCountInString(word)
			switch {
			case column == 0:
			case column+1+width > helpWidth:
				b.WriteByte('\n')
				column = 0
			default:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(word)
			column += width
		}
		paragraphs[i] = b.String()
	}
	return strings.Join(paragraphs, "\n\n")
}

// flagHelp is the list of a command's flags.
func flagHelp(cmd *cobra.Command) string {
	often := pflag.NewFlagSet("", pflag.ContinueOnError)
	rare := pflag.NewFlagSet("", pflag.ContinueOnError)
	often.SortFlags, rare.SortFlags = cmd.Flags().SortFlags, cmd.Flags().SortFlags
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if _, ok := f.Annotations[rareFlag]; ok {
			rare.AddFlag(f)
		} else {
			often.AddFlag(f)
		}
	})
	text := "Flags:\n" + often.FlagUsagesWrapped(helpWidth)
	if rare.HasFlags() {
		text += "\nRare flags:\n" + rare.FlagUsagesWrapped(helpWidth)
	}
	return strings.TrimRight(text, "\n")
}
