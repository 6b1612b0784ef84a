# Writes files into a C++ source, as the string constants that kernels/embedded.h declares:
#   cmake -DOUTPUT=embedded.cpp -DkDevicePrelude=FILE -DkFusedSource=FILE -P embed.cmake
set(text "#include \"kernels/embedded.h\"\n\nnamespace autoresearch {\n\n")
foreach(name kDevicePrelude kFusedSource)
  file(READ "${${name}}" content)
  string(APPEND text "const char* const ${name} = R\"cuda(${content})cuda\";\n\n")
endforeach()
file(WRITE "${OUTPUT}" "${text}}  // namespace autoresearch\n")
