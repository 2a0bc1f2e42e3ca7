package longrope

import (
	"strings"

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

// inOrder has the help of a command list its flags in the order of their definition, and the rare
// ones by themselves.
func inOrder(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	cobra.AddTemplateFunc("longropeFlags", flagHelp)
	const standard = "Flags:\n{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}"
	cmd.SetUsageTemplate(strings.Replace(cmd.UsageTemplate(), standard, "{{longropeFlags .}}", 1))
}

// flagHelp is the list of a command's flags.
func flagHelp(cmd *cobra.Command) string {
	often := pflag.NewFlagSet("", pflag.ContinueOnError)
	rare := pflag.NewFlagSet("", pflag.ContinueOnError)
	often.SortFlags, rare.SortFlags = false, false
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
