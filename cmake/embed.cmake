# Writes files into a C++ source, as the string constants that a header declares:
#   cmake -DOUTPUT=embedded.cpp -DHEADER=kernels/embedded.h
#         "-DFILES=kDevicePrelude=FILE,kFusedSource=FILE" -P embed.cmake
set(text "#include \"${HEADER}\"\n\nnamespace autoresearch {\n\n")
string(REPLACE "," ";" files "${FILES}")
foreach(file IN LISTS files)
  string(REGEX MATCH "^([^=]+)=(.+)$" matched "${file}")
  set(name "${CMAKE_MATCH_1}")
  file(READ "${CMAKE_MATCH_2}" content)
  string(APPEND text "const char* const ${name} = R\"embed(${content})embed\";\n\n")
endforeach()
file(WRITE "${OUTPUT}" "${text}}  // namespace autoresearch\n")
