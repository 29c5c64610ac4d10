#!/bin/sh
# A host whose decimal point is a comma. The locale is made here, from nothing but what is below: no root, and no package of locales.
set -eu
program=$1 model=$2 made=$3
mkdir -p "$made"
cat > "$made/ascii" << 'end'
<code_set_name> ANSI_X3.4-1968
<comment_char> %
<escape_char> /
CHARMAP
<U0000>..<U007F> /x00
END CHARMAP
end
cat > "$made/comma" << 'end'
comment_char %
escape_char /
LC_NUMERIC
decimal_point ","
thousands_sep "."
grouping 3;3
END LC_NUMERIC
end
# It warns of the categories that aren't there, and with -c makes them all the same.
localedef -c -i "$made/comma" -f "$made/ascii" "$made/xx_XX" > "$made/log" 2>&1 || [ -e "$made/xx_XX/LC_NUMERIC" ] || {
    cat "$made/log"
    exit 1
}
LOCPATH=$made "$program" "$model" xx_XX
