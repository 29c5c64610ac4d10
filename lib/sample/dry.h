// DRY: what would repeat a longer stretch of the text.
#pragma once
#include "sample/steps.h"

namespace pith {

// Counts in the step's tally, for each token that would continue a repetition of its allowed length or more, the length of the longest.
void find_repeats(const Step& step, const History& history);

}  // namespace pith
