// Files of agent/record/ that are part of the agent as text: CMake writes page_embedded.cpp
// (cmake/embed.cmake).
#pragma once

namespace autoresearch {

extern const char* const kPageSkeleton;  // page.html
extern const char* const kPageStyle;     // page.css
extern const char* const kPageScript;    // page.js

}  // namespace autoresearch
