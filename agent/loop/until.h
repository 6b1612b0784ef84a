// `--until HH:MM`: stop at that time of the user's clock.
#pragma once

#include <ctime>
#include <string>

namespace autoresearch {

// Seconds from `now` to the next moment at which local clocks show `text`, "07:30" or "7:30";
// always above 0. On the day on which clocks are put forward over that time, it is the moment that
// would have been called so; on the day on which they show it twice, the next of the two. Throws
// Error, a usage error, for any other text.
double seconds_until(const std::string& text, std::time_t now);
// What is wrong with such a text; empty if nothing is.
std::string until_problem(const std::string& text);

}  // namespace autoresearch
